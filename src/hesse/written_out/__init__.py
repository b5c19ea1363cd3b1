"""Functions of PyTorch whose second derivatives are wrong or missing, in operations whose
derivatives are right.

What writes into its argument or into ``out=``, where it is in no table, stays as it is.
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch.overrides import TorchFunctionMode

from hesse.written_out.distances import DISTANCES
from hesse.written_out.embeddings import EMBEDDINGS
from hesse.written_out.functions import FUNCTIONS
from hesse.written_out.losses import LOSSES
from hesse.written_out.replacement import Replacement

__all__ = ["WRITTEN_OUT", "WrittenOut"]

# By the function, under every name that it has.
WRITTEN_OUT: dict[Any, Replacement] = {**FUNCTIONS, **EMBEDDINGS, **DISTANCES, **LOSSES}


class WrittenOut(TorchFunctionMode):
    """While it is entered, the functions of the table run as they are written out here.

    Attributes:
        ran: the names of those that did, with what is amiss with PyTorch's second derivatives of
            each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ran: dict[str, str] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        known = WRITTEN_OUT.get(func)
        if known is None or "out" in options or not known.concerns(*args, **options):
            return func(*args, **options)
        self.ran[func.__name__] = known.fault
        return known.written(*args, **options)
