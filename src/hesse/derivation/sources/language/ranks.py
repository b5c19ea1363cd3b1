"""How many axes every array has: what each operation takes and gives, and what that leaves for
names that are not declared."""

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from hesse.derivation.sources.language.numbers import numbers
from hesse.derivation.sources.language.place import pointed
from hesse.derivation.sources.language.tree import (
    Along,
    Binary,
    Einsum,
    FunctionCall,
    Kron,
    Negative,
    NewAxis,
    Number,
    Symbol,
    Transpose,
    Tree,
    children,
    symbols,
    unparse,
    walk,
)
from hesse.derivation.sources.language.vocabulary import (
    along_an_axis,
    along_the_last,
    kept_axes,
    of_a_matrix,
)
from hesse.errors import HesseValueError


class RankError(Exception):
    """An operation that does not take arrays of these numbers of axes. The text says what it
    takes."""


def rank(tree: Tree, of: Sequence[int]) -> int:
    """The number of axes of a tree, from those of its children.

    Raises:
        RankError: there is none.
    """
    match tree:
        case Symbol() | Number():
            return 0
        case Negative():
            return of[0]
        case Transpose():
            return _at_most(of[0], 2, ".T is for scalars, vectors and matrices")
        case NewAxis(_, axis):
            if not -of[0] - 1 <= axis <= of[0]:
                raise RankError("a new axis stands beside those that are there")
            return of[0] + 1
        case Along(_, pattern, axis):
            if axis is None and of[0] != 1:
                raise RankError("of a matrix it needs axis=0 or axis=1")
            if not -of[0] <= (axis or 0) < of[0]:
                raise RankError("there are not so many axes")
            return of[0] - (not pattern.keeps)
        case Kron():
            if of[0] != of[1] or of[0] not in (1, 2):
                raise RankError("kron is for two vectors or two matrices")
            return of[0]
        case Einsum(inputs, output):
            if list(map(len, inputs)) != list(of):
                raise RankError("einsum needs a letter for each axis")
            return len(output)
        case Binary("@"):
            if 0 in of:
                raise RankError("@ is for vectors and matrices; multiply by a scalar with *")
            return 0 if max(of) == 1 else max(of) - (1 in of)
        case Binary():
            return max(of)
        case FunctionCall("eye"):
            return 2 + _at_most(of[0], 0, "eye(n) takes a size")
        case FunctionCall("diag"):
            if of[0] not in (1, 2):
                raise RankError(
                    "diag is for a vector, which it makes a matrix, or a matrix, whose diagonal it"
                    " takes"
                )
            return 3 - of[0]
        case FunctionCall(name) if name in of_a_matrix():
            if of[0] < 2:
                raise RankError(f"{name} is for square matrices")
            return of[0] - 2 + kept_axes(name)
        case FunctionCall("prod", _, None):
            return 0
        case FunctionCall(name, _, axis) if name in along_the_last():
            _axis(axis if axis is not None else -1, of[0], name)
            return of[0] - 1 + kept_axes(name)
        case FunctionCall("sum" | "mean" | "norm2" as name, _, axis):
            if axis is None:
                return 0
            _axis(axis, of[0], name)
            return of[0] - 1
        case FunctionCall():
            return of[0]


def _at_most(axes: int, most: int, message: str) -> int:
    if axes > most:
        raise RankError(message)
    return axes


def _axis(axis: int, of: int, name: str) -> int:
    if not -of <= axis < of:
        raise RankError(
            f"{name} acts along axis {axis}, which is not there"
            if of
            else f"{name} needs at least one axis"
        )
    return axis % of


class _Search:
    """The numbers of axes that each subtree can have, narrowed until nothing changes."""

    def __init__(self, tree: Tree, known: Mapping[str, int]) -> None:
        self.parts = tuple(dict.fromkeys(walk(tree)))
        self.can: dict[Tree, frozenset[int]] = {}
        for part in self.parts:
            if isinstance(part, Symbol):
                self.can[part] = frozenset({known[part.name]} if part.name in known else {0, 1, 2})
            else:
                self.can[part] = frozenset({0} if isinstance(part, Number) else range(9))
        self.above: dict[Tree, list[Tree]] = {part: [] for part in self.parts}
        for part in self.parts:
            for child in children(part):
                self.above[child].append(part)
        self.stuck: Tree | None = None

    def narrow(self) -> bool:
        """Whether every subtree still has a number of axes."""
        order, changed = self.parts, True
        while changed:
            changed = False
            for part in order:
                narrowed = self._narrowed(part)
                # This is the operation that the error names.
                if narrowed is None:
                    self.stuck = part
                    return False
                changed |= bool(narrowed)
            order = order[::-1]  # up the tree and down again
        return True

    def _narrowed(self, part: Tree) -> list[Tree] | None:
        """What of an operation and its arguments has fewer possibilities now; ``None`` where none
        is left."""
        below = children(part)
        if not below:
            return []
        ways = [
            (ranks, out)
            for ranks in product(*(sorted(self.can[child]) for child in below))
            if (out := _rank_or_none(part, ranks)) in self.can[part]
            and all(
                ranks[i] == ranks[j]
                for i, a in enumerate(below)
                for j, b in enumerate(below[:i])
                if a == b
            )
        ]
        if not ways:
            return None
        # A rank stays possible while one way of the operation has it.
        narrowed = {part: frozenset(out for _, out in ways if out is not None)}
        for position, child in enumerate(below):
            narrowed[child] = narrowed.get(child, self.can[child]) & {
                ranks[position] for ranks, _ in ways
            }
        changed = [piece for piece, can in narrowed.items() if can != self.can[piece]]
        self.can |= narrowed
        return changed

    def fix(self, part: Tree, *to: int) -> bool:
        """Try some choices; nothing changes where none of them fits."""
        before = dict(self.can)
        self.can[part] = self.can[part] & {*to}
        if self.can[part] and self._narrow_around(part):
            return True
        self.can = before
        return False

    def _narrow_around(self, part: Tree) -> bool:
        """`narrow`, after a change of one part: only what stands beside a change is looked at."""
        waiting = [part, *self.above[part]]
        while waiting:
            narrowed = self._narrowed(waiting.pop())
            if narrowed is None:
                return False
            for piece in narrowed:
                waiting += [piece, *self.above[piece]]
        return True


def _rank_or_none(tree: Tree, of: Sequence[int]) -> int | None:
    try:
        return rank(tree, of)
    except RankError:
        return None


def _is_of_many(part: Tree) -> bool:
    """Whether it is of an array with axes, as a norm, or gives it one, as in an outer product; not
    a sum, which people write around a number as well."""
    if isinstance(part, FunctionCall):
        return part.function in along_an_axis() - {"sum", "mean", "prod"}
    return isinstance(part, NewAxis)


def customary(name: str) -> int:
    """The number of axes of an array with such a name, where nothing else tells."""
    return 2 if name[0].isupper() else 1


class Ranks(NamedTuple):
    """The number of axes of every name, and what other number would have fit a name of which both
    are natural."""

    axes: dict[str, int]
    others: dict[str, int]


def infer_ranks(
    tree: Tree, text: str, known: Mapping[str, int], parameters: Collection[str]
) -> Ranks:
    """The number of axes of every name.

    A name has 0, 1 or 2, and each operation and the cost, which is a scalar, rule some out. Where
    more than one is left, a name is a number if it stands like one (see `numbers`); else one that
    begins with a lower-case letter is a vector and one with a capital a matrix, in the order in
    which they are written, if that is among those left. A capital that could be a matrix is never
    made a vector, so that ``W @ x`` is a vector, not a cost.

    Args:
        tree: the expression.
        text: as it was written.
        known: the numbers that are declared.
        parameters: the names that are derived by.

    Raises:
        HesseValueError: numbers that fit nowhere, or a name that is left with several.
    """
    if all(name in known for name in symbols(tree)):
        return Ranks(dict(known), {})
    search = _Search(tree, known)
    if not search.narrow():
        raise _impossible(search, text)
    for part in search.parts:
        # Nobody takes the norm of a number.
        if _is_of_many(part):
            (inside,) = children(part)
            search.fix(inside, *(search.can[inside] - {0}))
    before = dict(search.can)
    capitals = [
        part for part in search.parts if isinstance(part, Symbol) and customary(part.name) == 2
    ]
    search.fix(tree, 0)  # where it does not fit, the shape that the cost has is named later
    # A cost that only fits if W is a vector is a slip in the text, not a vector W.
    if any(search.can[part] == {1} and 2 in before[part] for part in capitals):
        search.can = before
    read = numbers(tree, known, parameters)
    names = [part for part in search.parts if isinstance(part, Symbol)]
    others: dict[str, int] = {}
    # Numbers last: what they could be depends on what stands beside them.
    for part in sorted(names, key=lambda part: part.name in read.chosen):
        if len(search.can[part]) > 1:
            either = part.name in (*read.chosen, *read.doubtful) and all(
                _fits(search, part, axes) for axes in (0, 1)
            )
            if part.name in read.chosen and search.fix(part, 0):
                others |= {part.name: 1} if either else {}
                continue
            can, custom = search.can[part], customary(part.name)
            if custom in can and search.fix(part, custom):
                others |= {part.name: 0} if either else {}
                continue
            # The customary number does not fit: another one may be the only one that does.
            fitting = [r for r in sorted(can) if _fits(search, part, r)]
            if len(fitting) != 1:
                choices = " or ".join(f"{part.name}[{','.join('nm'[:r])}]" for r in fitting)
                message = (
                    f"{part.name!r} could be {_spoken(fitting)}; declare it in shapes, as {choices}"
                )
                raise pointed(message, text, part.span)
            search.fix(part, fitting[0])
    return Ranks({part.name: min(search.can[part]) for part in names}, others)


def _fits(search: _Search, part: Symbol, to: int) -> bool:
    before = dict(search.can)
    fits = search.fix(part, to)
    search.can = before
    return fits


def _spoken(ranks: Sequence[int]) -> str:
    words = ("a scalar", "a vector", "a matrix")
    return (
        "of any shape"
        if len(ranks) > 2
        else " or ".join(words[r] if r < 3 else f"an array of {r} axes" for r in ranks)
    )


def _impossible(search: _Search, text: str) -> HesseValueError:
    part = search.stuck
    assert part is not None
    below = [sorted(search.can[child]) for child in children(part)]
    reason = "no numbers of axes fit"
    for ranks in product(*below):
        try:
            rank(part, ranks)
        except RankError as error:
            reason = str(error)
    pairs = zip(children(part), below, strict=True)
    said = " and ".join(f"{unparse(child)} ({_spoken(ranks)})" for child, ranks in pairs)
    return pointed(f"shapes do not fit in {unparse(part)}: {said}; {reason}", text, part.span)
