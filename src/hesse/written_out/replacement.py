"""What a function of PyTorch is replaced by, and what is amiss with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WRONG, MISSING = "wrong", "missing"


@dataclass(frozen=True)
class Replacement:
    """What runs in the place of a function.

    Attributes:
        written: the same in operations whose derivatives are right; it takes the arguments that the
            function takes.
        fault: what PyTorch's second derivatives of the function are.
        concerns: whether a call, by its arguments, is one to be replaced; all are by default.
    """

    written: Callable[..., Any]
    fault: str
    concerns: Callable[..., bool] = lambda *args, **kwargs: True
