"""From a tree over whole arrays to a program of named quantities, entry by entry."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from hesse.derivation.calculus.algebra import add, counted, product, scale, total
from hesse.derivation.calculus.expression import (
    ONE,
    ZERO,
    Apply,
    Count,
    Delta,
    Entry,
    Expression,
    Index,
    Power,
    Size,
    all_names,
    constant,
    grouped,
    of,
)
from hesse.derivation.calculus.normal_form import collect, simplify
from hesse.derivation.calculus.program import ArrayCall, Leaf, Program, Quantity
from hesse.derivation.calculus.structures import Pattern
from hesse.derivation.sources.language.facts import GivenFacts
from hesse.derivation.sources.language.names import IndexNames, QuantityNames, is_whole
from hesse.derivation.sources.language.parts import Naming
from hesse.derivation.sources.language.place import pointed
from hesse.derivation.sources.language.products import (
    Indices,
    along,
    contraction,
    einsum,
    kron,
    times,
)
from hesse.derivation.sources.language.rewrites import Known, rewritten
from hesse.derivation.sources.language.shapes import Shapes
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
    walk,
)
from hesse.derivation.sources.language.vocabulary import along_the_last, known
from hesse.errors import HesseValueError
from hesse.operations.registry import ARRAY_FUNCTIONS


def lower(
    tree: Tree,
    shapes: Shapes,
    wrt: Sequence[str],
    facts: GivenFacts | None = None,
) -> Program:
    """The program of a cost, or of a vector or matrix whose derivatives are asked for.

    Args:
        tree: what is derived.
        shapes: of its names, and of those in ``wrt``.
        wrt: the parameters.
        facts: what is given of its arrays.
    """
    # Whatever comes after sees only the forms whose derivatives are known.
    facts = facts or GivenFacts()
    tree = rewritten(tree, Known(lambda part: len(shapes.of(part)), facts.positive))
    return Lowering(tree, shapes, wrt, facts).program()


class Lowering:
    def __init__(
        self,
        tree: Tree,
        shapes: Shapes,
        wrt: Sequence[str],
        facts: GivenFacts,
    ) -> None:
        self.tree, self.shapes, self.fixed = tree, shapes, facts.fixed
        called = {part.function for part in walk(tree) if isinstance(part, FunctionCall)}
        self.unknown = frozenset(called - known())
        leaves = [
            name
            for name in dict.fromkeys((*symbols(tree), *wrt))
            if name not in self.fixed and name not in shapes.counts
        ]
        self.leaves = {
            name: Leaf(
                name,
                shapes.leaves[name],
                "parameter" if name in wrt else "constant" if name in shapes.values else "data",
                np.array(shapes.values[name]) if name in shapes.values else None,
                sums_to=facts.sums[name][0] if name in facts.sums else None,
                structure=facts.structures.get(name),
                otherwise=shapes.others.get(name),
            )
            for name in leaves
        }
        sizes = {str(size) for shape in shapes.leaves.values() for size in shape}
        taken = {*shapes.leaves, *sizes, *called}
        naming = Naming(
            lambda part: not {*symbols(part)}.isdisjoint(wrt), lambda part: len(shapes.of(part))
        )
        self.names = QuantityNames(tree, self.is_constant, taken, naming)
        # No index is called like something that is written beside it.
        letters = (
            taken
            | {"z", "a", "u", self.names.cost(bool(shapes.of(tree)))}
            | ({"p"} if called & along_the_last() else set())
        )
        products = [
            part for part in walk(tree) if isinstance(part, Binary) and part.operator == "@"
        ]
        # @ sums over the last axis of its left side, and a slice over the axis that it is of.
        sliced = [part for part in walk(tree) if isinstance(part, Along)]
        summed = [shapes.of(part.left)[-1] for part in products]
        summed += [shapes.of(part.operand)[part.axis or 0] for part in sliced]
        outside = (size for part in (*products, *sliced) for size in shapes.of(part))
        self.indices = IndexNames(summed, outside, letters)
        self.quantities: list[Quantity] = []
        self.defined: dict[Tree, Quantity] = {}

    def program(self) -> Program:
        # What the cost is made of is defined on the way, so it comes last.
        indices = self.fresh(self.shapes.of(self.tree), set())
        definition = simplify(self.value(self.tree, indices, set()))
        cost = Quantity(self.names.cost(bool(indices)), indices, definition, "cost")
        found = Program(self.leaves, (*self.quantities, cost), self.unknown)
        # Of what is written for mean(x - mean(x)) nothing may be left.
        needed = found.ancestors(cost.name)
        used = [quantity for quantity in self.quantities if quantity.name in needed]
        return replace(found, quantities=(*used, cost))

    def is_constant(self, tree: Tree) -> bool:
        """Whether a subtree is a number, whatever the arrays are."""
        if isinstance(tree, Symbol):
            return tree.name in self.fixed or tree.name in self.shapes.counts
        return all(self.is_constant(child) for child in children(tree))

    # ---------------------------------------------------------------- quantities

    def entry(self, tree: Tree, indices: Indices) -> Entry:
        """An entry of a quantity, which is defined where it is first asked for."""
        # Equal subtrees are one quantity.
        if tree not in self.defined:
            quantity = self.whole(tree) if is_whole(tree) else self.quantity(tree)
            self.quantities.append(quantity)
            self.defined[tree] = quantity
        return Entry(self.defined[tree].name, indices)

    def quantity(self, tree: Tree) -> Quantity:
        indices = self.fresh(self.shapes.of(tree), set())
        definition = simplify(self.written_out(tree, indices, set()))
        return Quantity(self.names.name(tree), indices, definition, self.names.role(tree))

    def whole(self, tree: FunctionCall) -> Quantity:
        indices = self.fresh(self.shapes.of(tree.argument), set())
        factor = grouped(self.value(tree.argument, indices, set()))
        # The argument of such a function is an array or has got a name.
        assert isinstance(factor, Entry)
        function = ARRAY_FUNCTIONS[tree.function]
        kept = (
            indices[: len(indices) - function.axes]
            + indices[len(indices) - function.axes :][: function.keeps]
        )
        return Quantity(
            self.names.name(tree, factor.name),
            kept,
            ArrayCall(tree.function, factor),
            self.names.role(tree),
        )

    def fresh(self, shape: Sequence[Size], scope: set[str], summed: bool = False) -> Indices:
        """Indices for an array, with names that differ and are not in scope."""
        indices: list[Index] = []
        for size in shape:
            indices.append(
                self.indices.index(size, scope | {index.name for index in indices}, summed)
            )
        return tuple(indices)

    # ---------------------------------------------------------------- entries

    def value(self, tree: Tree, indices: Indices, scope: set[str]) -> Expression:
        """The entry of a subtree at some indices; those it sums over have names that are not in
        scope."""
        return (
            of(self.entry(tree, indices))
            if tree in self.names
            else self.written_out(tree, indices, scope)
        )

    def written_out(self, tree: Tree, indices: Indices, scope: set[str]) -> Expression:
        """The same, written out even where it has a name."""
        scope = scope | {index.name for index in indices}
        match tree:
            case Number(value):
                return constant(value)
            case Symbol(name) if name in self.fixed:
                return constant(self.fixed[name])
            case Symbol(name) if name in self.shapes.counts:
                return of(Count(name))
            case Symbol(name):
                return of(Entry(name, indices))
            case Negative(operand):
                return scale(self.value(operand, indices, scope), -1)
            case Transpose(operand):
                return self.value(operand, indices[::-1], scope)
            case NewAxis(operand, axis):
                place = axis % len(indices)
                return self.value(operand, (*indices[:place], *indices[place + 1 :]), scope)
            case Along():
                return along(self, tree, indices, scope)
            case Kron():
                return kron(self, tree, indices, scope)
            case Einsum():
                return einsum(self, tree, indices, scope)
            case Binary("@"):
                return contraction(self, tree, indices, scope)
            case Binary("+" | "-" as sign, left, right):
                second = self.broadcast(right, indices, scope)
                return add(
                    self.broadcast(left, indices, scope),
                    second if sign == "+" else scale(second, -1),
                )
            case Binary(_, left, right):
                # The right side sums over no letter that stands in the left one.
                first = self.broadcast(left, indices, scope)
                return self.arithmetic(
                    tree, first, self.broadcast(right, indices, scope | all_names(first))
                )
            case FunctionCall(name) if name in _CALLS:
                return _CALLS[name](self, tree, indices, scope)
            case FunctionCall(name, argument):
                return of(Apply(name, 0, grouped(self.value(argument, indices, scope))))

    def broadcast(self, tree: Tree, indices: Indices, scope: set[str]) -> Expression:
        """The entry of an operand at the indices of a result with more axes, or longer ones: an
        axis of size 1 is repeated."""
        shape = self.shapes.of(tree)
        # By NumPy's rule the axes are matched from the last.
        indices = indices[len(indices) - len(shape) :]
        reached = list(indices)
        for position, (size, index) in enumerate(zip(shape, indices, strict=True)):
            if size == 1 != index.size:
                reached[position] = self.indices.index(1, scope | {other.name for other in reached})
        # A sum over an index of size 1 takes its only entry.
        return total(
            self.value(tree, tuple(reached), scope),
            [index for index in reached if index not in indices],
        )

    def constant(self, pattern: Pattern) -> str:
        """The name of a constant array, which is a leaf from here on."""
        for name, leaf in self.leaves.items():
            if leaf.pattern == pattern:
                return name
        name = self.names.free(pattern.name)
        self.leaves[name] = Leaf(name, pattern.sizes, "constant", pattern=pattern)
        return name

    def arithmetic(self, tree: Binary, left: Expression, right: Expression) -> Expression:
        match tree.operator:
            case "*":
                return times(left, right)
            case "/":
                if collect(right).is_zero:
                    raise self.error("division by zero", tree)
                return times(left, reciprocal(right))
        return self.power(tree, left, right)

    def power(self, tree: Binary, left: Expression, right: Expression) -> Expression:
        # A number must be one before a power of it can be worked out.
        left = collect(left) if self.is_constant(tree.left) else left
        right = collect(right) if self.is_constant(tree.right) else right
        power = right.number
        if left.number is not None and power is not None and power.denominator == 1:
            if not left.number and power < 0:
                raise self.error("division by zero", tree)
            # Numbers are exact fractions: this many bits, not a size, is the limit.
            if (
                abs(power)
                * (left.number.numerator.bit_length() + left.number.denominator.bit_length())
                > 4096
            ):
                raise self.error("a power with too many digits to be kept exact", tree)
            return constant(left.number ** int(power))
        if left.is_zero:
            if power is None or power < 0:
                raise self.error("a power of zero", tree)
            return ZERO
        if power == 0:
            return ONE
        return left if power == 1 else of(Power(grouped(left), right))

    def error(self, message: str, tree: Tree) -> HesseValueError:
        return pointed(message, self.shapes.text, tree.span)

    # -------------------------------------------------------- calls that are sums or arithmetic

    def summed(
        self, tree: FunctionCall, indices: Indices, scope: set[str], squared: bool = False
    ) -> tuple[Expression, Indices]:
        """The sum over one axis or all, and the indices summed over."""
        shape = self.shapes.of(tree.argument)
        if tree.axis is None:
            over = inner = self.fresh(shape, scope)
        else:
            over = self.fresh((shape[tree.axis],), scope)
            inner = (*indices[: tree.axis], *over, *indices[tree.axis :])
        body = self.value(tree.argument, inner, scope | {index.name for index in over})
        if squared and not body.is_zero:
            body = of(Power(grouped(body), constant(2)))
        return total(body, over), over

    def sum(self, tree: FunctionCall, indices: Indices, scope: set[str]) -> Expression:
        return self.summed(tree, indices, scope)[0]

    def mean(self, tree: FunctionCall, indices: Indices, scope: set[str]) -> Expression:
        result, over = self.summed(tree, indices, scope)
        for index in over:
            share = (
                constant(Fraction(1, index.size))
                if isinstance(index.size, int)
                else product(Power(factor, constant(-1)) for factor in counted(index.size))
            )
            result = times(share, result)
        return result

    def norm2(self, tree: FunctionCall, indices: Indices, scope: set[str]) -> Expression:
        return root(self.summed(tree, indices, scope, squared=True)[0])

    def sqrt(self, tree: FunctionCall, indices: Indices, scope: set[str]) -> Expression:
        return root(self.value(tree.argument, indices, scope))

    def trace(self, tree: FunctionCall, indices: Indices, scope: set[str]) -> Expression:
        (i,) = self.fresh(self.shapes.of(tree.argument)[-1:], scope)
        return total(self.value(tree.argument, (*indices, i, i), scope | {i.name}), [i])

    def diag(self, tree: FunctionCall, indices: Indices, scope: set[str]) -> Expression:
        if len(indices) == 1:
            return self.value(tree.argument, (*indices, *indices), scope)
        return times(kronecker(indices), self.value(tree.argument, indices[:1], scope))

    def eye(self, tree: FunctionCall, indices: Indices, scope: set[str]) -> Expression:
        return kronecker(indices)


_CALLS: dict[str, Callable[[Lowering, FunctionCall, Indices, set[str]], Expression]] = {
    name: getattr(Lowering, name)
    for name in ("sum", "mean", "norm2", "sqrt", "trace", "diag", "eye")
}


def reciprocal(expression: Expression) -> Expression:
    """1/u"""
    return (
        constant(1 / expression.number)
        if expression.number
        else of(Power(grouped(expression), constant(-1)))
    )


def root(expression: Expression) -> Expression:
    """√u"""
    return (
        expression
        if expression.is_zero
        else of(Power(grouped(expression), constant(Fraction(1, 2))))
    )


def kronecker(indices: Indices) -> Expression:
    """[i = j]"""
    return ONE if indices[0] == indices[1] else of(Delta(*indices))
