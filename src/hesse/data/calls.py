"""How a model takes the inputs of a batch: as one argument, or spread over several."""

import inspect
from collections.abc import Callable
from typing import Any


def spread(
    function: Callable[..., Any], x: Any, *before: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call: ``(**x)`` of a mapping and ``(*x)`` of a tuple that the function can
    take so, else ``(x)``.

    Args:
        function: the model's forward, or a function of the user's.
        x: the inputs of a batch.
        before: the arguments in front of them.

    Example:
        >>> spread(lambda image, mask: image, ("image", "mask"))
        (('image', 'mask'), {})
        >>> spread(lambda pair: pair, ("image", "mask"))
        ((('image', 'mask'),), {})
    """
    if isinstance(x, dict) and _takes(function, before, x):
        return before, x
    if isinstance(x, tuple | list) and _takes(function, (*before, *x), {}):
        return (*before, *x), {}
    return (*before, x), {}


def _takes(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):  # ValueError: of a builtin, which has no signature
        return False
    return True
