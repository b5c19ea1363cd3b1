"""What numbers, arrays and tables have and a Hessian, an operator or an estimate has not, and where
it is to be had."""

import sys
from typing import Any, NoReturn

import numpy as np
import torch

from hesse.errors import HesseAttributeError, HesseTypeError

# What is had without the whole matrix, by the name that a tensor has it under.
_FUNCTIONS = {
    "trace": "hesse.trace({})",
    "logdet": "hesse.logdet({})",
    "inverse": "hesse.inverse({})",
    "diagonal": "hesse.estimated_diagonal({}), or hesse.diagonal(cost)",
}
# And what is the whole matrix itself, by the names that NumPy, SciPy and pandas have for it.
_WHOLE = ("to_numpy", "to_pandas", "to_xarray", "toarray", "todense")


class NoArithmetic:
    """An object that is no number, and says so to who reckons with it."""

    # The object by a letter, what it is, and where its numbers are.
    _no_number: str

    def _refuse_arithmetic(self, *others: Any) -> NoReturn:
        raise HesseTypeError(self._no_number)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse_arithmetic
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = _refuse_arithmetic
    __mod__ = __rmod__ = __divmod__ = __rdivmod__ = __pow__ = __rpow__ = _refuse_arithmetic
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _refuse_arithmetic
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _refuse_arithmetic
    __neg__ = __pos__ = __abs__ = __invert__ = __round__ = _refuse_arithmetic
    __float__ = __int__ = __complex__ = _refuse_arithmetic
    __lt__ = __le__ = __gt__ = __ge__ = _refuse_arithmetic

    def __format__(self, spec: str) -> str:
        return self._refuse_arithmetic() if spec else str(self)


# Without annotations, for what checks them in the tests would stand between this and who asks.
def refuse_scipy(letter):
    """Raise where SciPy's sparse linear algebra asks for a dtype. It reads that of whatever it is
    given, often before anything else, and NumPy then fails on one of PyTorch's in words that say
    nothing of the way.

    Raises:
        HesseTypeError: it does.
    """
    asking: Any = sys._getframe(2)
    while asking.f_code.co_filename.startswith("<@"):  # of a checker: no code of a file's
        asking = asking.f_back
    if asking.f_globals.get("__name__", "").startswith("scipy.sparse.linalg"):
        raise HesseTypeError(_not_scipys(letter))


def absent_of_array(owner: object, name: str, dense: str, frames: str = "") -> Exception:
    """The error for an attribute that is not there: no AttributeError where SciPy would take that
    for an answer, and go on to say that it understands nothing.

    Args:
        owner: the Hessian or operator.
        name: the attribute.
        dense: the call that makes a tensor of it.
        frames: the call that makes a table of pandas of it, where there is one.
    """
    kind = type(owner).__name__
    letter = dense.partition(".")[0]
    if name == "matvec":
        return HesseTypeError(_not_scipys(letter))
    way = ""
    # What is not imported is not what the user thinks of.
    pandas = sys.modules.get("pandas") if frames else None
    if name in _WHOLE:
        way = f"{dense}.numpy()"
    elif name.startswith("_"):
        pass
    elif hasattr(torch.Tensor, name):
        way = f"{dense}.{name}{_called(torch.Tensor, name)}"
    elif hasattr(np.ndarray, name):
        way = f"{dense}.numpy().{name}{_called(np.ndarray, name)}"
    elif hasattr(torch.linalg, name):
        way = f"torch.linalg.{name}({dense})"
    elif pandas is not None and hasattr(pandas.DataFrame, name):
        way = f"{frames}.{name}{_called(pandas.DataFrame, name)}"
    if not way:
        return AttributeError(f"{kind!r} object has no attribute {name!r}")
    ways = [way, *([_FUNCTIONS[name].format(letter)] if name in _FUNCTIONS else [])]
    return HesseAttributeError(
        f"{name}: a {kind} has none; of the whole matrix it is {', or '.join(ways)}"
    )


def _not_scipys(letter: str) -> str:
    operator = "A" if letter == "A" else f"hesse.as_operator({letter})"
    return (
        f"{letter}: this is no operator of SciPy's; give it {operator}.to_scipy(), or the whole"
        f" matrix, {letter}.dense().numpy()"
    )


def _called(kind: type, name: str) -> str:
    return "()" if callable(getattr(kind, name)) else ""
