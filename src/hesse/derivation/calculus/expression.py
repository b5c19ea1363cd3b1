"""What a formula is made of: sums of products of entries, with named indices.

Every value here is a scalar with free indices: ``Σ_i W[o,i] x_i`` has the free index o. Matrices
are recognised when a formula is shown (`hesse.derivation.show.matrix`), never while it is derived,
so that one small calculus serves scalars, vectors, matrices and the blocks of order three and four
between them.

An `Expression` is a sum of `Term`s; a term is a rational number times a product of factors, summed
over its bound indices. The factors are a closed set: `Entry`, `Delta`, `Apply`, `Power`, `Group`,
`Count`, `Partial`. Operations are an open one: each has its place in a table (`hesse.operations`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from typing import Any, Literal, TypeVar

from hesse.derivation.calculus.picking import Picker, numbered

Size = int | str  # a number, or the letter of one
Kind = Literal["curvature from above", "product-rule term"]


@dataclass(frozen=True, order=True)
class Index:
    """One index: its name, and how far it runs."""

    name: str
    size: Size = field(compare=False)


@dataclass(frozen=True)
class Entry:
    """``W[o,i]``: one entry of a leaf or of a named quantity. A scalar has no indices."""

    name: str
    indices: tuple[Index, ...] = ()


@dataclass(frozen=True)
class Delta:
    """``[i = j]``: one where the two indices are equal, zero elsewhere."""

    left: Index
    right: Index


@dataclass(frozen=True)
class Apply:
    """``f''(z_o)``: an elementwise function, differentiated ``order`` times, at one factor."""

    function: str
    order: int
    argument: "Factor"


@dataclass(frozen=True)
class Power:
    """``base ** exponent``. A quotient is a product with the power −1."""

    base: "Factor"
    exponent: "Expression"


@dataclass(frozen=True)
class Group:
    """``(y_p − ŷ_p)``: a sum kept together as one factor."""

    body: "Expression"


@dataclass(frozen=True)
class Count:
    """How far an index of a symbolic size runs, as a number: the n of a mean over n."""

    size: str


@dataclass(frozen=True)
class Partial:
    """``∂ of / ∂ by``: a derivative not carried out, in all that ``of`` depends on; with two in
    ``by``, a second derivative.

    Only leaves and named quantities can be in ``by``. A quantity is then moved as if it were free:
    what stands above it follows, what it was made from does not.
    """

    of: "Factor"
    by: tuple[Entry, ...]


Factor = Entry | Delta | Apply | Power | Group | Count | Partial


@dataclass(frozen=True)
class Term:
    """``coefficient · Σ_bound factor · factor · …``

    Attributes:
        coefficient: a rational number.
        factors: in the order in which they are shown.
        bound: the indices summed over.
        kind: which of the two kinds of second-derivative term this is, where that is known.
    """

    coefficient: Fraction
    factors: tuple[Factor, ...] = ()
    bound: tuple[Index, ...] = ()
    kind: Kind | None = None


@dataclass(frozen=True)
class Expression:
    """A sum of terms; the empty one is zero. x − x becomes it only by `collect`."""

    terms: tuple[Term, ...] = ()

    @property
    def is_zero(self) -> bool:
        """Whether it has no terms."""
        return not self.terms

    @property
    def number(self) -> Fraction | None:
        """The value of an expression that is a rational number."""
        if self.is_zero:
            return Fraction(0)
        term = self.terms[0]
        return (
            term.coefficient
            if len(self.terms) == 1 and not term.factors and not term.bound
            else None
        )


ZERO = Expression()


def constant(value: Fraction | int) -> Expression:
    """A rational number as an expression."""
    return Expression((Term(Fraction(value)),)) if value else ZERO


ONE = constant(1)


def of(factor: Factor) -> Expression:
    """One factor as an expression."""
    return Expression((Term(Fraction(1), (factor,)),))


def as_factor(expression: Expression) -> tuple[Fraction, Factor] | None:
    """The number and the single factor that an expression is, or None."""
    if len(expression.terms) == 1:
        term = expression.terms[0]
        if len(term.factors) == 1 and not term.bound:
            return term.coefficient, term.factors[0]
    return None


def grouped(expression: Expression) -> Factor:
    """An expression as one factor: itself where it is one, in parentheses otherwise."""
    single = as_factor(expression)
    return single[1] if single and single[0] == 1 else Group(expression)


def kept(expression: Expression) -> Expression:
    """A sum as one factor in its parentheses, a product as it is: what may stand in a product
    without being multiplied out."""
    return of(Group(expression)) if len(expression.terms) > 1 else expression


# ---------------------------------------- the tree

Node = Factor | Term | Expression
Parts = TypeVar("Parts", bound=Node)


def children(value: Node) -> tuple[Node, ...]:
    """What a value is directly made of, in the order in which it is read."""
    match value:
        case Expression(terms):
            return terms
        case Term():
            return value.factors
        case Apply():
            return (value.argument,)
        case Power(base, exponent):
            return (base, exponent)
        case Group(body):
            return (body,)
        case Partial(of, by):
            return (of, *by)
        case Entry() | Delta() | Count():
            return ()


def rebuilt(value: Parts, change: Callable[[Any], Any]) -> Parts:
    """The value with each of its children replaced by what ``change`` makes of it.

    A child must stay of its kind: a term a term, a factor a factor. Bound indices stay as they are.
    Where no child changes it is the value itself, which keeps what it knows of itself.
    """
    before = children(value)
    after: tuple[Any, ...] = tuple(map(change, before))
    if all(new is old for new, old in zip(after, before, strict=True)):
        return value
    made: Any = value
    match value:
        case Expression():
            made = Expression(after)
        case Term(coefficient, _, bound, kind):
            made = Term(coefficient, after, bound, kind)
        case Apply(function, order):
            made = Apply(function, order, *after)
        case Power():
            made = Power(*after)
        case Group():
            made = Group(*after)
        case Partial():
            made = Partial(after[0], after[1:])
    return made


def walk(value: Node) -> Iterator[Node]:
    """The value itself and all that is in it, each before its own parts."""
    yield value
    for child in children(value):
        yield from walk(child)


# ---------------------------------------- indices


def own_indices(value: Node) -> tuple[Index, ...]:
    """The indices that stand in a node itself: of an entry, of a delta, those a term sums over."""
    match value:
        case Entry():
            return value.indices
        case Delta(left, right):
            return (left, right)
        case Term():
            return value.bound
    return ()


def indices(value: Node) -> tuple[Index, ...]:
    """The free indices, each once, in the order in which they appear."""
    # Nothing is asked for more often, so each node keeps its own.
    kept: tuple[Index, ...] | None = vars(value).get("_indices")
    if kept is not None:
        return kept
    match value:
        case Entry() | Delta():
            free: Iterable[Index] = own_indices(value)
        case Term(_, _, bound) if bound:
            free = (i for child in children(value) for i in indices(child) if i not in bound)
        case _:
            free = (i for child in children(value) for i in indices(child))
    vars(value)["_indices"] = found = tuple(dict.fromkeys(free))
    return found


def all_names(value: Node) -> set[str]:
    """The names of all indices, bound ones too."""
    return set(_all_names(value))


def _all_names(value: Node) -> frozenset[str]:
    kept: frozenset[str] | None = vars(value).get("_all_names")
    if kept is None:
        own = (index.name for index in own_indices(value))
        vars(value)["_all_names"] = kept = frozenset(own).union(*map(_all_names, children(value)))
    return kept


Renaming = Mapping[Index, Index]


def rename_factor(factor: Factor, to: Renaming) -> Factor:
    """The factor with its free indices renamed."""
    if to.keys().isdisjoint(indices(factor)):
        return factor
    match factor:
        case Entry(name, at):
            return Entry(name, tuple([to.get(index, index) for index in at]))
        case Delta(left, right):
            return Delta(to.get(left, left), to.get(right, right))
    return rebuilt(
        factor,
        lambda part: rename(part, to) if isinstance(part, Expression) else rename_factor(part, to),
    )


def rename_term(term: Term, to: Renaming) -> Term:
    """The term with its free indices renamed; bound indices that would be caught are renamed out of
    the way first."""
    # A sum binds its index: a free one of the same name elsewhere is another.
    to = {old: new for old, new in to.items() if old not in term.bound and old != new}
    if not to:
        return term
    caught = {new.name for new in to.values()}
    # Σ_j a[i,j] with i renamed to j would sum over both.
    if any(index.name in caught for index in term.bound):
        term = freshen(term, caught, beside={old.name for old in to})
    return rebuilt(term, lambda factor: rename_factor(factor, to))


def rename(expression: Expression, to: Renaming) -> Expression:
    """The expression with its free indices renamed, all at once."""
    return rebuilt(expression, lambda term: rename_term(term, to)) if to else expression


LETTERS = "ijklmnpqrstuvwoabcdegh"


def fresh(index: Index, taken: set[str]) -> Index:
    """An index like this one, whose name is added to those taken."""
    return Index(Picker(taken).pick(chain([index.name], numbered(LETTERS))), index.size)


def freshen(term: Term, taken: Iterable[str], beside: Iterable[str] = ()) -> Term:
    """The term with each bound index whose name is taken renamed, to names that are not ``beside``
    either."""
    taken = set(taken)
    # Only those that clash: names that a reader knows stay.
    caught = [index for index in term.bound if index.name in taken]
    if not caught:
        return term
    # An index m of an axis of n beside one of m would be misread.
    sizes = {str(index.size) for index in (*indices(term), *term.bound)}
    names = Picker(taken | all_names(term) | set(beside) | sizes)
    to = {index: Index(names.pick(numbered(LETTERS)), index.size) for index in caught}
    return Term(
        term.coefficient,
        tuple(rename_factor(factor, to) for factor in term.factors),
        tuple(to.get(index, index) for index in term.bound),
        term.kind,
    )


def freshened(expression: Expression, taken: Iterable[str]) -> Expression:
    """The expression without sums over indices of such names, nor, within each other, over one that
    means something around them."""
    taken = set(taken)
    return rebuilt(expression, lambda term: _apart(term, taken))


def _apart(value: Parts, taken: set[str]) -> Parts:
    if not sums(value):
        return value
    if isinstance(value, Term):
        value = freshen(value, taken)
        taken = taken.union(index.name for index in (*value.bound, *indices(value)))
    return rebuilt(value, lambda child: _apart(child, taken))


def sums(value: Node) -> bool:
    """Whether anything in a value is summed over."""
    kept: bool | None = vars(value).get("_sums")
    if kept is None:
        own = isinstance(value, Term) and bool(value.bound)
        vars(value)["_sums"] = kept = own or any(map(sums, children(value)))
    return kept
