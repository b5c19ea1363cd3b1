"""Where the axes of arrays lie, and which operation of a library carries a contraction out."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count

import opt_einsum

from hesse.derivation.calculus.expression import Index
from hesse.derivation.code.statements import Contraction, Value

# The axes that an array shall have; None for a new one, of length one.
Arrangement = tuple[Index | None, ...]

# An index of a single letter keeps it. The others take these in turn: first those that people
# write for indices.
_LETTERS = "ijklmnpqrstuvwxyzabcdefghoABCDEFGHIJKLMNOPQRSTUVWXYZ"


def layout(value: Value, axes: Sequence[Index | None]) -> list[int | None]:
    """For each of ``axes`` the axis of the array that it is, None for a new one; leading new ones
    are left to broadcasting."""
    places = [value.axes.index(index) if index in value.axes else None for index in axes]
    leading = next((k for k, axis in enumerate(places) if axis is not None), len(places))
    return places[leading:]


def subscripts(*arrays: tuple[Index, ...], out: tuple[Index, ...]) -> str:
    """What an einsum calls the axes of its arrays and of its result.

    Examples:
        >>> i, j, row = Index("i", 2), Index("j", 3), Index("row", 4)
        >>> subscripts((i, j), (j, row), out=(i, row))
        'ij,jk->ik'
    """
    indices = dict.fromkeys(index for axes in (*arrays, out) for index in axes)
    names = {index: index.name for index in indices if index.name in tuple(_LETTERS)}
    # A product of very many arrays may have more indices than there are letters.
    letters = chain(_LETTERS, map(opt_einsum.get_symbol, count(len(_LETTERS))))
    left = (letter for letter in letters if letter not in names.values())
    names |= {index: next(left) for index in indices if index not in names}
    *inputs, output = ("".join(names[index] for index in axes) for axes in (*arrays, out))
    return f"{','.join(inputs)}->{output}"


@dataclass(frozen=True)
class Matmul:
    """A matrix product of two arrangements, over leading axes; ``drop`` is an axis of length one to
    take out afterwards."""

    left: Arrangement
    right: Arrangement
    drop: int | None = None


@dataclass(frozen=True)
class Tensordot:
    """A sum over several axes at once: as one matrix product."""

    left: tuple[int, ...]
    right: tuple[int, ...]


def lowered(node: Contraction, out: tuple[Index, ...]) -> Matmul | Tensordot | str:
    """What carries a contraction out: a matrix product wherever there is one, else the subscripts
    of an einsum."""
    left, right = node.left.axes, node.right.axes
    summed = tuple(index for index in left if index in right and index not in out)
    batch = tuple(index for index in out if index in left and index in right)
    rows = tuple(index for index in left if index not in right)
    columns = tuple(index for index in right if index not in left)
    if out == (*batch, *rows, *columns):
        if len(summed) == 1 and len(rows) <= 1 and len(columns) <= 1:
            if not batch:
                return Matmul((*rows, *summed), (*summed, *columns))
            # In a stack of matrices a vector would be read as a matrix: it becomes one.
            if rows or columns:
                first, second = rows or (None,), columns or (None,)
                drop = None if rows and columns else -1 if rows else -2
                return Matmul((*batch, *first, *summed), (*batch, *summed, *second), drop)
        if not batch:
            axes = (tuple(map(axes.index, summed)) for axes in (left, right))
            return Tensordot(*axes)
    return subscripts(left, right, out=out)


def diagonals(repeated: tuple[Index, ...]) -> tuple[tuple[tuple[int, int], ...], tuple[Index, ...]]:
    """The pairs of axes whose diagonal is taken one after the other, each of which goes last, and
    the indices of what is left.

    Examples:
        >>> i, j = Index("i", 2), Index("j", 3)
        >>> pairs, left = diagonals((i, j, i, j))
        >>> pairs, [index.name for index in left]
        (((0, 2), (0, 1)), ['i', 'j'])
    """
    left, pairs = list(repeated), []
    while len(set(left)) < len(left):
        index = next(index for index in left if left.count(index) > 1)
        first = left.index(index)
        second = left.index(index, first + 1)
        pairs.append((first, second))
        left = [other for k, other in enumerate(left) if k not in (first, second)] + [index]
    return tuple(pairs), tuple(left)
