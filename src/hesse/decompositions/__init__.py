"""Decompositions: functions of PyTorch whose second derivatives are wrong or missing, written out
in operations whose derivatives are right.

A call that writes into its argument or into ``out=``, where it is in no table, stays as it is.
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch.overrides import TorchFunctionMode

from hesse.decompositions.decomposition import Decomposition
from hesse.decompositions.distances import DISTANCES
from hesse.decompositions.embeddings import EMBEDDINGS
from hesse.decompositions.functions import FUNCTIONS
from hesse.decompositions.losses import LOSSES

__all__ = ["DECOMPOSITIONS", "Decompositions"]

# By the function, under every name that it has.
DECOMPOSITIONS: dict[Any, Decomposition] = {**FUNCTIONS, **EMBEDDINGS, **DISTANCES, **LOSSES}


class Decompositions(TorchFunctionMode):
    """While this mode is entered, the functions of the table run decomposed.

    Attributes:
        used: the names of those that did, with what is amiss with PyTorch's second derivatives of
            each: ``"wrong"`` or ``"missing"``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.used: dict[str, str] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        known = DECOMPOSITIONS.get(func)
        if known is None or "out" in options or not known.applies(*args, **options):
            return func(*args, **options)
        self.used[func.__name__] = known.fault
        return known.function(*args, **options)
