"""How a model takes the inputs of a batch: as one argument, or spread over several."""

import inspect
from collections.abc import Callable
from typing import Any


def call_arguments(
    function: Callable[..., Any], x: Any, *before: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call: ``(**x)`` of a mapping and ``(*x)`` of a tuple that the function can
    take so, else ``(x)``.

    Args:
        function: the model's forward, or a function of the user's.
        x: the inputs of a batch.
        before: the arguments in front of them.

    Examples:
        >>> call_arguments(lambda image, mask: image, ("image", "mask"))
        (('image', 'mask'), {})
        >>> call_arguments(lambda pair: pair, ("image", "mask"))
        ((('image', 'mask'),), {})
    """
    if isinstance(x, dict) and _accepts(function, before, x):
        return before, x
    if isinstance(x, tuple | list) and _accepts(function, (*before, *x), {}):
        return (*before, *x), {}
    return (*before, x), {}


def _accepts(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    # By the signature and not by a trial call: a TypeError of the user's own code means something
    # else.
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):  # ValueError: of a builtin, which has no signature
        return False
    return True
