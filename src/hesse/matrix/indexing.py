"""Parts of a block by indices of its axes: which of its rows and columns they are in."""

import math
from typing import Any, NamedTuple

from hesse.errors import HesseTypeError, HesseValueError


class Inner(NamedTuple):
    """What is left to be done with rows and columns.

    Attributes:
        shape: what they are brought to first.
        taken: the index of that.
    """

    shape: tuple[int, ...]
    taken: tuple[int | slice, ...]


def ranges_of(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], index: tuple[Any, ...]
) -> tuple[slice, slice, Inner]:
    """The rows and columns of a block (*a.shape, *b.shape) that an index needs, by the first axis
    of each parameter.

    Raises:
        HesseTypeError: an index that is neither a whole number nor a slice.
        HesseValueError: more indices than axes, or one beyond its axis.

    Examples:
        >>> ranges_of(((4, 5), (3,)), (2, slice(1, 3)))[:2]
        (slice(10, 15, None), slice(0, 3, None))
    """
    axes = (*shapes[0], *shapes[1])
    if len(index) > len(axes):
        raise HesseValueError(
            f"H[...]: {len(index)} indices for a block of {len(axes)} axes, {axes}"
        )
    spans, inner = list[slice](), list[int | slice]()
    for axis, size in enumerate(axes):
        held = index[axis] if axis < len(index) else slice(None)
        span = _span(held, size)
        # Only along a parameter's first axis are entries side by side.
        first = axis in (0, len(shapes[0])) and size > 0
        spans.append(span if first else slice(0, size))
        inner.append(_within(held) if first else held)
    parts, shape = list[slice](), list[int]()
    begin = 0
    for own in shapes:
        spanned = spans[begin : begin + len(own)]
        lengths = [span.stop - span.start for span in spanned]
        row = math.prod(own[1:])
        parts.append(slice(spanned[0].start * row, spanned[0].stop * row) if own else slice(0, 1))
        shape += lengths
        begin += len(own)
    return parts[0], parts[1], Inner(tuple(shape), tuple(inner))


def _span(held: Any, size: int) -> slice:
    """From the first entry that an index of an axis takes to the last."""
    if isinstance(held, bool) or not isinstance(held, int | slice):
        raise HesseTypeError(
            f"H[...]: expected whole numbers and slices as indices of a block, got {held!r}"
        )
    if isinstance(held, int):
        if not -size <= held < size:
            raise HesseValueError(f"H[...]: index {held} is beyond an axis of {size} entries")
        return slice(held % size, held % size + 1)
    if held.step is not None and held.step < 1:
        raise HesseValueError("H[...]: a slice of a block needs a step > 0")
    taken = range(size)[held]
    return slice(taken[0], taken[-1] + 1) if taken else slice(0, 0)


def _within(held: int | slice) -> int | slice:
    """The index, within the span of what it takes."""
    return 0 if isinstance(held, int) else slice(None, None, held.step)
