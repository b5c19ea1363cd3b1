"""Objects that travel: to another process, into a file, into a copy. What of the user's cannot is
named.

What a cost is made of is the user's: a lambda and a class within a function have no name by which
another process could find them. Picklers that write functions themselves, as cloudpickle does for
joblib and dask, take these too.
"""

import copy
import io
import pickle
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hesse.errors import HesseError, HesseTypeError, in_a_line


class Travelling:
    """Can be pickled and copied where its parts can."""

    def parts(self) -> Mapping[str, Any]:
        """What of the user's travels along, by the name of the argument that it came as."""
        raise NotImplementedError

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not _writes_functions():
            for name, part in self.parts().items():
                _require(name, type(self).__name__, part)
        return super().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        other = memo[id(self)] = object.__new__(type(self))
        try:
            state: Any = copy.deepcopy(self.__getstate__(), memo)
        except HesseError:
            raise
        except Exception as error:  # of the user's __deepcopy__, or a tensor with its graph
            raise HesseTypeError(
                f"copy: a part of this {type(self).__name__} cannot be copied ({in_a_line(error)});"
                " take what cannot (a tensor with a graph, a lock, an open file) out of the model,"
                " the loss or the data"
            ) from error
        # As pickle does it: by a method of the object's own where it has one.
        set_state: Any = getattr(other, "__setstate__", vars(other).update)
        set_state(state)
        return other


class _Trial(pickle.Pickler):
    """A pickler that leaves out the entries of tensors: they can be pickled, and may be many."""

    def persistent_id(self, obj: Any) -> str | None:
        """Something in place of a tensor."""
        return "tensor" if type(obj) in (Tensor, nn.Parameter) else None


def _require(name: str, whose: str, part: Any) -> None:
    try:
        _Trial(io.BytesIO()).dump(part)
    except HesseError:
        raise
    except Exception as error:  # of the user's __getstate__ or __reduce__ it may be anything
        raise HesseTypeError(
            f"{name}: this {whose} cannot be pickled, for its {name} cannot ({in_a_line(error)});"
            " define functions and classes with def and class at the top level of a module, in the"
            " place of a lambda or a function within a function, or make the cost in the other"
            " process"
        ) from error


def _writes_functions() -> bool:
    """Whether the pickler at work is one that writes functions themselves: such ones are written in
    Python and override how objects are reduced, which the standard ones do not."""
    frame = sys._getframe(1)
    while frame is not None:
        pickler = frame.f_locals.get("self") if frame.f_code.co_name == "dump" else None
        if isinstance(pickler, pickle.Pickler):
            return hasattr(pickler, "reducer_override")
        frame = frame.f_back
    return False
