"""The shape of every array in an expression: as declared, or as the expression forces it to be."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from hesse.derivation.calculus.expression import Size
from hesse.derivation.calculus.picking import Picker, numbered
from hesse.derivation.calculus.sizes import is_derived, multiplied, parts, replaced, shifted
from hesse.derivation.calculus.sizes import letters as letters_of
from hesse.derivation.sources.language.declarations import Shape
from hesse.derivation.sources.language.place import pointed
from hesse.derivation.sources.language.ranks import RankError, customary, infer_ranks, rank
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
    CONSTANTS,
    along_an_axis,
    kept_axes,
    of_a_matrix,
)
from hesse.errors import HesseKeyError, HesseValueError, nearest


class Shapes:
    """Shapes of the leaves of an expression, and of every subtree.

    Attributes:
        text: the expression, for errors.
        leaves: the sizes of each name. A size that was nowhere declared is a letter.
        counts: names that stand for a size, used as a number.
        values: of names that stand for numbers of their own.
        others: of names that were not declared, and whose number of axes was a guess, the shape
            with another number that would do.
    """

    def __init__(
        self, text: str, leaves: Mapping[str, Shape], counts: frozenset[str] = frozenset()
    ) -> None:
        self.text, self.leaves, self.counts = text, dict(leaves), counts
        self.values: dict[str, float] = {}
        self.others: dict[str, Shape] = {}
        self._known: dict[Tree, Shape] = {}
        self._same: dict[Size, Size] = {}
        self._named: dict[Tree, frozenset[str]] = {}

    def of(self, tree: Tree) -> Shape:
        """The shape of a subtree.

        Raises:
            HesseValueError: shapes that do not fit; both are named, and carets show the place.
        """
        if tree not in self._known:
            self._known[tree] = self._shape(tree, [self.of(child) for child in children(tree)])
        return tuple(map(self.size, self._known[tree]))

    def with_other(self, name: str, shape: Shape) -> "Shapes":
        """The same with another shape of one name: only what holds the name is asked anew."""
        other = Shapes(self.text, {**self.leaves, name: shape}, self.counts)
        other._known = {
            tree: known for tree, known in self._known.items() if name not in self._names(tree)
        }
        return other

    def _names(self, tree: Tree) -> frozenset[str]:
        if tree not in self._named:
            own = {tree.name} if isinstance(tree, Symbol) else ()
            self._named[tree] = frozenset(own).union(*map(self._names, children(tree)))
        return self._named[tree]

    def size(self, size: Size) -> Size:
        """A size that was open, as what it has turned out to be."""
        known = replaced(size, lambda letter: self._same.get(letter, letter))
        return size if known == size else self.size(known)

    def _unify(
        self, pair: Iterable[Size], tree: Tree, of: Sequence[Shape], stretch: bool = False
    ) -> Size:
        a, b = map(self.size, pair)
        if a == b:
            return a
        if stretch and 1 in (a, b):
            return b if a == 1 else a
        # Of x[1:] and y it is y that has one entry less.
        for unknown, other in sorted(((a, b), (b, a)), key=lambda pair: is_derived(pair[0])):
            # An open size takes the other's value; two that are known must agree.
            if _open(unknown) and not {*letters_of(unknown)} & {*letters_of(other)}:
                letter, by = parts(str(unknown))[0]
                self._same[letter] = found = shifted(other, -by)
                if isinstance(found, str) or found > 0:
                    return other
        raise self._misfit(tree, of, f"{show(a)} and {show(b)} differ")

    def _misfit(self, tree: Tree, of: Sequence[Shape], why: str) -> HesseValueError:
        parts = " and ".join(
            f"{unparse(child)} of shape {show_shape(map(self.size, shape))}"
            for child, shape in zip(children(tree), of, strict=True)
        )
        return pointed(
            f"shapes do not fit in {unparse(tree)}: {parts}; {why}", self.text, tree.span
        )

    def _shape(self, tree: Tree, of: list[Shape]) -> Shape:
        try:
            rank(tree, [len(shape) for shape in of])
        except RankError as error:
            raise self._misfit(tree, of, str(error)) from None
        match tree:
            case Symbol(name):
                return self.leaves[name]
            case Number():
                return ()
            case Transpose():
                return of[0][::-1]
            case NewAxis(_, axis):
                place = axis % (len(of[0]) + 1)
                return (*of[0][:place], 1, *of[0][place:])
            case Along(_, pattern, axis):
                place = (axis or 0) % len(of[0])
                rows = pattern.rows(of[0][place])
                if any(isinstance(size, int) and size < 1 for size in rows):
                    raise self._misfit(tree, of, "nothing would be left of the axis")
                return (*of[0][:place], *rows, *of[0][place + 1 :])
            case Kron():
                return tuple(map(multiplied, of[0], of[1]))
            case Einsum(inputs, output):
                sizes: dict[str, Size] = {}
                for letters, shape in zip(inputs, of, strict=True):
                    for letter, size in zip(letters, shape, strict=True):
                        known = sizes.setdefault(letter, size)
                        sizes[letter] = self._unify((known, size), tree, of)
                return tuple(sizes[letter] for letter in output)
            case Binary("@"):
                return self._product(tree, *of)
            case Binary():
                return self._stretched(tree, of[0], of[1], of)
            case FunctionCall("eye", argument):
                size: Size = argument.name if isinstance(argument, Symbol) else int(argument.value)  # pyright: ignore[reportAttributeAccessIssue]
                return size, size
            case FunctionCall("diag"):
                return (of[0][0], of[0][0]) if len(of[0]) == 1 else (self._unify(of[0], tree, of),)
            case FunctionCall(name) if name in of_a_matrix():
                self._unify(of[0][-2:], tree, of)
                return of[0] if kept_axes(name) else of[0][:-2]
            case FunctionCall("sum" | "mean" | "norm2" | "prod", _, None):
                return ()
            case FunctionCall(name, _, axis) if name in along_an_axis() and not kept_axes(name):
                gone = (-1 if axis is None else axis) % len(of[0])
                return of[0][:gone] + of[0][gone + 1 :]
        return of[0]

    def _product(self, tree: Tree, left: Shape, right: Shape) -> Shape:
        self._unify((left[-1], right[0] if len(right) == 1 else right[-2]), tree, (left, right))
        batch = self._stretched(tree, left[:-2], right[:-2], (left, right))
        return (*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else ()))

    def _stretched(self, tree: Tree, left: Shape, right: Shape, of: Sequence[Shape]) -> Shape:
        """NumPy's rule: axes are matched from the last, and an axis of size 1 is repeated."""
        common = min(len(left), len(right))
        lead = left[: len(left) - common] or right[: len(right) - common]
        pairs = zip(left[len(left) - common :], right[len(right) - common :], strict=True)
        return (*lead, *(self._unify(pair, tree, of, stretch=True) for pair in pairs))


def _open(size: Size) -> bool:
    """Whether a size can be anything: that of a name, or one that follows from it alone."""
    return isinstance(size, str) and size.startswith("?") and "*" not in size


def show(size: Size) -> str:
    """A size in an error."""
    return "a size that is not known; declare it" if "?" in str(size) else str(size)


def show_shape(shape: Iterable[Size]) -> str:
    """A shape in an error: ``(h, d)``, ``(d,)``, ``()``."""
    sizes = ["?" if "?" in str(size) else str(size) for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def infer(
    tree: Tree, text: str, shapes: Mapping[str, Shape], extra: Collection[str] = ()
) -> Shapes:
    """The shapes of all names: those declared, and of the others what the expression leaves
    possible.

    First the numbers of axes, see `ranks.infer_ranks`. Then the sizes: equal where an operation
    needs it, never 1 unless declared, and otherwise letters of their own, from the innermost array
    on. A name that is not declared and is the letter of a declared size stands for that number:
    ``1/n*sum(x)`` with ``x[n]``.

    Args:
        tree: the expression.
        text: as it was written.
        shapes: what is declared.
        extra: names that need a shape though they do not occur.

    Raises:
        HesseValueError: shapes that do not fit, or a name that could have several.
        HesseKeyError: a declared name that does not occur.
    """
    names = tuple(dict.fromkeys((*symbols(tree), *extra)))
    sizes = {letter for shape in shapes.values() for size in shape for letter in letters_of(size)}
    calls = [part for part in walk(tree) if isinstance(part, FunctionCall)]
    sizes |= {
        call.argument.name
        for call in calls
        if call.function == "eye" and isinstance(call.argument, Symbol)
    }
    for name in shapes:
        if name not in names:
            message = f"shapes declares {name!r}, which is neither in the expression nor in wrt"
            raise HesseKeyError(f"{message}; there are {nearest(name, list(names))}")
    counts = frozenset(name for name in symbols(tree) if name in sizes and name not in shapes)
    _check_eye(tree, text, counts)
    values = {
        name: value
        for name, value in CONSTANTS.items()
        if name in names and name not in {*shapes, *extra, *counts}
    }
    known = {name: len(shape) for name, shape in shapes.items()}
    known |= dict.fromkeys((*counts, *values), 0)
    found = infer_ranks(tree, text, known, extra)
    ranks = {name: customary(name) for name in extra} | found.axes
    leaves: dict[str, Shape] = dict.fromkeys(counts, ())
    for name in names:
        if name not in counts:
            leaves[name] = (
                shapes[name]
                if name in shapes
                else tuple(f"?{name}{axis}" for axis in range(ranks[name]))
            )
    open_shapes = Shapes(text, leaves, counts)
    # The walk itself unifies sizes; its result is asked for below, when they have letters.
    open_shapes.of(tree)
    letters = Picker(sizes.union(names, (call.function for call in calls)))
    chosen: dict[str, Size] = {}
    # d is the input's size, h the first layer's, as people write them.
    for name in (*_innermost_first(tree), *extra):
        for size in map(open_shapes.size, reversed(leaves[name])):
            for letter in letters_of(size):
                if letter.startswith("?") and letter not in chosen:
                    chosen[letter] = letters.pick(numbered("dhmnkpqrstlbceguvw"))
    result = {
        name: tuple(
            replaced(open_shapes.size(size), lambda letter: chosen.get(letter, letter))
            for size in shape
        )
        for name, shape in leaves.items()
    }
    for name in counts - {
        letter for shape in result.values() for size in shape for letter in letters_of(size)
    }:
        raise HesseValueError(
            f"{name!r} is a size of no array in the expression; declare one that has it"
        )
    lettered = Shapes(text, result, counts)
    lettered.of(tree)
    _require_plain_powers(lettered, tree)
    lettered.values = values
    lettered.others = {
        name: _otherwise(lettered, tree, name, axes) for name, axes in found.others.items()
    }
    return lettered


def _require_plain_powers(shapes: Shapes, tree: Tree) -> None:
    """Refuse a power of a matrix where one of the matrix itself may be meant."""
    for part in walk(tree):
        match part:
            case Binary("@", left, right):
                factors = (left, right)
            case FunctionCall("trace" | "det" | "logdet" | "inv", argument):
                factors = (argument,)
            case _:
                continue
        for factor in factors:
            while isinstance(factor, Transpose | Negative):
                factor = factor.operand
            match factor:
                case Binary("**", base, exponent) if len(shapes.of(base)) == 2:
                    raise _ambiguous_power(shapes.text, factor, unparse(base), exponent)


def _ambiguous_power(text: str, power: Tree, base: str, exponent: Tree) -> HesseValueError:
    match exponent:
        case Number(value) if value == 2:
            written = f"{base} @ {base} for the matrix times itself, {base}*{base}"
        case Negative(Number(value)) if value == 1:
            written = f"inv({base}) for the inverse, 1/{base}"
        case _:
            written = f"products of {base} or inv({base}) for a power of the matrix, exp and log"
    return pointed(
        f"{unparse(power)} is the power of each entry, beside a matrix product; write {written} for"
        " each entry",
        text,
        power.span,
    )


def _otherwise(shapes: Shapes, tree: Tree, name: str, axes: int) -> Shape:
    """The shape of a name with another number of axes."""
    opened = tuple(f"?{name}{axis}" for axis in range(axes))
    otherwise = shapes.with_other(name, opened)
    otherwise.of(tree)
    return tuple(map(otherwise.size, opened))


def _check_eye(tree: Tree, text: str, counts: frozenset[str]) -> None:
    for part in walk(tree):
        if isinstance(part, FunctionCall) and part.function == "eye":
            match part.argument:
                case Symbol(name) if name in counts:
                    continue
                case Number(value) if value.denominator == 1 and value >= 1:
                    continue
            raise pointed(
                "eye takes a size: the letter of one, or a whole number", text, part.argument.span
            )


def _innermost_first(tree: Tree) -> tuple[str, ...]:
    """The names, those in the innermost forms first: the sizes of a network are lettered from its
    input on."""
    depths: dict[str, int] = {}

    def visit(part: Tree, depth: int) -> None:
        if isinstance(part, Symbol):
            depths[part.name] = max(depths.get(part.name, 0), depth)
        for child in children(part):
            visit(child, depth + 1)

    visit(tree, 0)
    return tuple(sorted(depths, key=lambda name: -depths[name]))
