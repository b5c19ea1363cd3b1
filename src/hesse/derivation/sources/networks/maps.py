"""Index maps: operations that put entries in other places. Most only move axes; others multiply
with a condition on indices."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from hesse.derivation.calculus.algebra import add, total
from hesse.derivation.calculus.expression import Delta as Equal
from hesse.derivation.calculus.expression import Expression, Index, of
from hesse.derivation.sources.networks.axes import strides
from hesse.derivation.sources.networks.builder import Builder, require_fits
from hesse.derivation.sources.networks.conditions import linear
from hesse.derivation.sources.networks.view import Axis, View, length, times


def moved(view: View, order: Sequence[int]) -> View:
    """The axes in another order."""
    pieces = tuple(moved(piece, order) for piece in view.pieces)
    seam = list(order).index(view.seam) if pieces else 0
    return View(view.expression, tuple(view.axes[axis] for axis in order), pieces, seam)


def swapped(view: View, first: int, second: int) -> View:
    """Two axes exchanged."""
    order = list(range(len(view.axes)))
    order[first], order[second] = order[second], order[first]
    return moved(view, order)


def with_axis(view: View, axis: int) -> View:
    """One more axis, of size 1."""
    axes = list(view.axes)
    axes.insert(axis % (len(axes) + 1), ())
    return view.over(axes)


def without_axes(view: View, dropped: Sequence[int]) -> View:
    """Without axes of size 1."""
    lost = [index for axis in dropped for index in view.axes[axis]]
    return View(
        total(view.expression, lost),
        tuple(axis for k, axis in enumerate(view.axes) if k not in dropped),
    )


def expanded(build: Builder, view: View, shape: Sequence[int]) -> View:
    """Axes of size 1 repeated, and new ones in front."""
    axes: list[Axis] = (
        [(), *[()] * (len(shape) - len(view.axes) - 1), *view.axes]
        if len(shape) > len(view.axes)
        else list(view.axes)
    )
    expression, taken = view.expression, {index.name for index in view.indices}
    for k, size in enumerate(shape):
        if size > 1 == length(axes[k]):
            expression = total(expression, axes[k])
            axes[k] = (build.axes.lettered(build.axes.temporary(size), taken),)
    return View(expression, tuple(axes))


def reshaped(build: Builder, view: View, shape: Sequence[int]) -> View:
    """The same entries in the same order on axes of other lengths: merged axes carry several
    indices, split ones a condition."""
    shape = list(shape)
    if -1 in shape:
        shape[shape.index(-1)] = math.prod(view.shape) // -math.prod(shape)
    parts, axes = list(view.indices), []
    expression = view.expression
    for run, sizes in _runs(parts, shape):
        wanted = [k for k, size in enumerate(sizes) if size > 1]
        # Most reshapes only merge or split along the indices there are.
        fit = _fit(run, sizes)
        if fit is not None:
            axes += fit
            continue
        # Indices that do not fall into the new axes: new ones, and the condition that both mean the
        # same place.
        new = [build.axes.temporary(sizes[k]) for k in wanted]
        expression = total(times(_same_place(build, run, new), expression), run)
        letters = iter(new)
        axes += [(next(letters),) if size > 1 else () for size in sizes]
    return build.axes.finished(View(expression, tuple(axes)))


def _same_place(build: Builder, old: list[Index], new: list[Index]) -> Expression:
    """The condition that two lists of indices mean the same place of a flattened axis."""
    if len(old) == 1:
        return build.affine(old[0], 0, list(zip(strides(tuple(new)), new, strict=True)))
    require_fits((*old, *new))
    sides = [
        linear(strides(tuple(side)), [int(index.size) for index in side], first=first)
        for side, first in ((old, 0), (new, len(old)))
    ]
    array = torch.eye(length(tuple(old))).reshape([int(index.size) for index in (*old, *new)])
    return build.condition(f"[{sides[0]} = {sides[1]}]", (*old, *new), array)


def _runs(parts: list[Index], shape: list[int]) -> list[tuple[list[Index], list[int]]]:
    """The indices and the new axes in the shortest groups of equal length."""
    runs: list[tuple[list[Index], list[int]]] = []
    parts, shape = list(parts), list(shape)
    while parts or shape:
        run, sizes = ([parts.pop(0)] if parts else []), ([shape.pop(0)] if shape else [])
        while (a := math.prod(int(index.size) for index in run)) != (b := math.prod(sizes)):
            if (a < b and parts) or not shape:
                run.append(parts.pop(0))
            else:
                sizes.append(shape.pop(0))
        runs.append((run, sizes))
    if len(runs) > 1 and not runs[-1][1]:  # indices of size 1 at the end
        run, _ = runs.pop()
        # They have no new axis to themselves.
        runs[-1] = (runs[-1][0] + run, runs[-1][1])
    return runs


def _fit(run: list[Index], sizes: list[int]) -> list[Axis] | None:
    """The indices laid on the new axes in their order, where each axis is a product of some."""
    axes: list[Axis] = []
    left = list(run)
    for size in sizes:
        axis: list[Index] = []
        while length(tuple(axis)) < size and left:
            axis.append(left.pop(0))
        if length(tuple(axis)) != size:
            return None
        if size == 1 and left and left[0].size == 1:
            axis.append(left.pop(0))
        axes.append(tuple(axis))
    if any(index.size != 1 for index in left) or (left and not axes):
        return None
    if left:
        axes[-1] = (*axes[-1], *left)
    return axes


def sliced(build: Builder, view: View, axis: int, start: int, step: int, count: int) -> View:
    """``count`` places of an axis from ``start`` on, every ``step``-th."""
    if count == length(view.axes[axis]):
        return view
    # A part of a joined tensor is the piece it came from, without any condition.
    if view.pieces and view.seam == axis:
        piece, place = _piece(view, start)
        if place + (count - 1) * step < piece.shape[axis]:
            return sliced(build, piece, axis, place, step, count)
    view = build.axes.joined(view, axis)
    if count == 1:
        return picked(build, view, axis, start, keep=True)
    (index,) = view.axes[axis]
    new = build.axes.temporary(count)
    expression = total(times(build.affine(index, start, [(step, new)]), view.expression), (index,))
    return build.axes.finished(
        View(expression, (*view.axes[:axis], (new,), *view.axes[axis + 1 :]))
    )


def picked(build: Builder, view: View, axis: int, place: int, keep: bool = False) -> View:
    """One place of an axis, which goes, or stays with size 1."""
    if view.pieces and view.seam == axis:
        piece, place = _piece(view, place)
        return picked(build, piece, axis, place, keep)
    expression = view.expression
    parts = view.axes[axis]
    for index, value in zip(
        parts, _digits(place % length(parts) if parts else 0, parts), strict=True
    ):
        if index.size == 1:
            expression = total(expression, (index,))
            continue
        expression = total(times(build.affine(index, value, []), expression), (index,))
    middle: tuple[Axis, ...] = ((),) if keep else ()
    return View(expression, (*view.axes[:axis], *middle, *view.axes[axis + 1 :]))


def _piece(view: View, place: int) -> tuple[View, int]:
    """The piece in which a place of the seam lies, and where in it."""
    for piece in view.pieces:
        if place < piece.shape[view.seam]:
            return piece, place
        place -= piece.shape[view.seam]
    raise AssertionError("beyond the end")


def _digits(place: int, axis: Axis) -> list[int]:
    digits = []
    for index in reversed(axis):
        place, digit = divmod(place, int(index.size))
        digits.append(digit)
    return digits[::-1]


def joint(build: Builder, views: Sequence[View], axis: int) -> View:
    """Views one after the other along an axis."""
    sizes = [view.shape[axis] for view in views]
    whole, start, parts = build.axes.temporary(sum(sizes)), 0, []
    labels = [
        [k if k != axis else ("own", n) for k in range(len(view.axes))]
        for n, view in enumerate(views)
    ]
    single = [
        view if size == 1 else build.axes.joined(view, axis)
        for view, size in zip(views, sizes, strict=True)
    ]
    expressions, along = build.axes.unified(single, labels)
    for n, (expression, size) in enumerate(zip(expressions, sizes, strict=True)):
        shares = along["own", n]
        parts.append(
            total(
                times(build.affine(whole, start, [(1, index) for index in shares]), expression),
                shares,
            )
        )
        start += size
    axes = tuple((whole,) if k == axis else along[k] for k in range(len(views[0].axes)))
    joined = build.axes.finished(View(add(*parts), axes))
    return View(joined.expression, joined.axes, tuple(views), axis)


def diagonal(build: Builder, view: View, first: int, second: int) -> View:
    """The entries with two equal indices, on one axis at the end."""
    view = build.axes.joined(build.axes.joined(view, first), second)
    (a,), (b,) = view.axes[first], view.axes[second]
    expression = total(times(of(Equal(a, b)), view.expression), (b,))
    rest = tuple(axis for k, axis in enumerate(view.axes) if k not in (first, second))
    return View(expression, (*rest, (a,)))


def chunk_starts(length: int, argument: Any, by_count: bool) -> list[tuple[int, int]]:
    """The start and the size of each piece that an axis is cut into."""
    if isinstance(argument, int):
        size = -(-length // argument) if by_count else argument
        return [(start, min(size, length - start)) for start in range(0, length, size)]
    starts = [sum(argument[:k]) for k in range(len(argument))]
    return list(zip(starts, argument, strict=True))
