"""What one function of PyTorch is decomposed into, and what is amiss with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# What PyTorch does where it is asked for them: it gives other numbers, or an error.
WRONG, MISSING = "wrong", "missing"


@dataclass(frozen=True)
class Decomposition:
    """What runs in the place of a function.

    Attributes:
        function: the same in operations whose derivatives are right; it takes the arguments that
            the function takes.
        fault: what PyTorch's second derivatives of the function are.
        applies: whether a call, by its arguments, is one to be replaced; all are by default.
    """

    function: Callable[..., Any]
    fault: str
    applies: Callable[..., bool] = lambda *args, **kwargs: True
