"""The axes of views: joined, matched and summed, their indices lettered where they are used."""

from collections.abc import Callable, Hashable, Sequence
from functools import reduce

from hesse.derivation.calculus.algebra import total
from hesse.derivation.calculus.expression import Expression, Index, rename
from hesse.derivation.sources.networks.letters import IndexLetters
from hesse.derivation.sources.networks.view import Axis, View, length, times


class Axes:
    """Changes views in their axes alone.

    Args:
        letters: gives indices their names.
        affine: the condition that an index is a start plus strides times other indices.
        is_data: whether a view holds no parameter.
    """

    def __init__(
        self,
        letters: IndexLetters,
        affine: Callable[[Index, int, Sequence[tuple[int, Index]]], Expression],
        is_data: Callable[[View], bool],
    ) -> None:
        self._letters, self._affine, self._is_data = letters, affine, is_data
        self._temporary = 0

    def temporary(self, size: int) -> Index:
        """An index that gets its letter where it is used."""
        self._temporary += 1
        return Index(f"*{self._temporary}", size)

    def lettered(self, index: Index, taken: set[str], kind: str = "part") -> Index:
        """The index, with another letter where its own is taken; the letter is added to those
        taken."""
        if index.name.startswith("*"):
            index = self._letters.new(kind, index.size, taken)
        elif index.name in taken:
            index = self._letters.beside(index, taken)
        taken.add(index.name)
        return index

    def finished(self, view: View) -> View:
        """The view with a letter for each index that has none yet."""
        if not any(index.name.startswith("*") for index in view.indices):
            return view
        taken = {index.name for index in view.indices}
        to = {
            index: self.lettered(index, taken)
            for index in view.indices
            if index.name.startswith("*")
        }
        axes = tuple(tuple(to.get(index, index) for index in axis) for axis in view.axes)
        return View(rename(view.expression, to), axes)

    def joined(self, view: View, axis: int) -> View:
        """The view with a single index on one axis: ``[e = 4h + d]`` where several ran along it."""
        parts = view.axes[axis]
        if len(parts) == 1:
            return view
        if not parts:
            return view.over((*view.axes[:axis], (self.temporary(1),), *view.axes[axis + 1 :]))
        whole = self.temporary(length(parts))
        joint = times(
            self._affine(whole, 0, list(zip(strides(parts), parts, strict=True))), view.expression
        )
        return self.finished(
            View(total(joint, parts), (*view.axes[:axis], (whole,), *view.axes[axis + 1 :]))
        )

    def unified(
        self, views: Sequence[View], labels: Sequence[Sequence[Hashable]]
    ) -> tuple[list[Expression], dict[Hashable, Axis]]:
        """Views on common indices: their expressions, and the indices of each label.

        Args:
            views: what is to be combined. An index has the letter of the first view that has it.
            labels: for each view a label for each axis; axes with one label run together, those of
                size 1 are repeated.
        """
        single = list(views)
        along: dict[Hashable, Axis] = {}
        taken: set[str] = set()
        for label in dict.fromkeys(label for axes in labels for label in axes):
            uses = [
                (k, axis)
                for k, axes in enumerate(labels)
                for axis, other in enumerate(axes)
                if other == label
            ]
            size = max(length(single[k].axes[axis]) for k, axis in uses)
            full = [
                (k, axis)
                for k, axis in uses
                if length(single[k].axes[axis]) == size and single[k].axes[axis]
            ]
            if (
                size > 1
                and len({tuple(i.size for i in single[k].axes[axis]) for k, axis in full}) > 1
            ):
                for k, axis in full:
                    single[k] = self.joined(single[k], axis)
            # Data takes the letters of what it is compared with.
            leading = min(full, key=lambda use: self._is_data(single[use[0]]), default=None)
            first = single[leading[0]].axes[leading[1]] if leading else ()
            along[label] = tuple(self.lettered(index, taken) for index in first)
        expressions = []
        for view, axes in zip(single, labels, strict=True):
            to: dict[Index, Index] = {}
            single_places: list[Index] = []
            for axis, label in zip(view.axes, axes, strict=True):
                # Axes of the same indices run together; another one has size 1 and is repeated.
                if len(axis) == len(along[label]) and length(axis) == length(along[label]):
                    to |= dict(zip(axis, along[label], strict=True))
                else:
                    single_places += axis
            # A sum over an index of size 1 takes its only entry.
            expressions.append(rename(total(view.expression, single_places), to))
        return expressions, along

    def contract(
        self, views: Sequence[View], labels: Sequence[Sequence[Hashable]], out: Sequence[Hashable]
    ) -> View:
        """The product of views, summed over the labels that are not among those of the result: a
        sum as in `numpy.einsum`."""
        expressions, along = self.unified(views, labels)
        summed = [index for label, axis in along.items() if label not in out for index in axis]
        return View(total(reduce(times, expressions), summed), tuple(along[label] for label in out))

    def broadcast(self, views: Sequence[View]) -> tuple[list[Expression], tuple[Axis, ...]]:
        """Views on common axes, by the rules of broadcasting: their expressions, and the axes."""
        rank = max(len(view.axes) for view in views)
        labels = [[rank - len(view.axes) + k for k in range(len(view.axes))] for view in views]
        expressions, along = self.unified(views, labels)
        return expressions, tuple(along.get(label, ()) for label in range(rank))


def strides(axis: Axis) -> list[int]:
    """How far one step of each index goes along a flattened axis."""
    return [length(axis[k + 1 :]) for k in range(len(axis))]
