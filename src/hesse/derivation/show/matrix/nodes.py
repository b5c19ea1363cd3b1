"""What a matrix formula is made of. Every node is a matrix; a vector has no columns to count, a
scalar no rows either."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from hesse.derivation.calculus.expression import Size

Sizes = tuple[
    Size, ...
]  # of one side of a matrix, counted row by row; empty for a vector's or scalar's single one
Shape = tuple[Sizes, Sizes]
Shown = tuple[str, tuple[str, ...]]  # a name, and the places at which it stands: x_n, X[:,n]


@dataclass(frozen=True)
class Array:
    """A leaf, a quantity, or with names in ``by`` a derivative of one that is not written out:
    ``∂z3/∂z2``."""

    name: str
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Symbol:
    """An array as a matrix.

    Attributes:
        array: its axes are those of the rows, then those of the columns, but for the fixed ones.
        rows, columns: the sizes of its axes, the fixed ones left out.
        fixed: (axis, index) for each axis at which an index of an enclosing sum stands: row n of X
            is ``((0, "n"),)``.
        shown: where axes are fixed, how each name in the array is written.
        symmetric: whether it is its own transpose.
    """

    array: Array
    rows: Sizes = ()
    columns: Sizes = ()
    fixed: tuple[tuple[int, str], ...] = ()
    shown: tuple[Shown, ...] = ()
    symmetric: bool = False


@dataclass(frozen=True)
class Dimension:
    """A symbolic size as a number."""

    size: str


@dataclass(frozen=True)
class Zeros:
    """The zero matrix."""

    rows: Sizes
    columns: Sizes


@dataclass(frozen=True)
class Ones:
    """The vector of ones; the number 1 where it has no size."""

    rows: Sizes


@dataclass(frozen=True)
class Identity:
    """I."""

    rows: Sizes


@dataclass(frozen=True)
class Commutation:
    """K: ``K vec(V) = vec(Vᵀ)`` for V of shape rows × columns."""

    rows: Sizes
    columns: Sizes


@dataclass(frozen=True)
class Around:
    """A function of one matrix."""

    body: "Matrix"


@dataclass(frozen=True)
class Joined:
    """A product of matrices, of one kind or another."""

    factors: "tuple[Matrix, ...]"


@dataclass(frozen=True)
class Over:
    """The matrices that the body is for each value of an index, put together; the index stands in
    the body as a fixed axis of symbols."""

    index: str
    size: Size
    body: "Matrix"


@dataclass(frozen=True)
class Scaled:
    """``number · scalar · … · body``; none of the scalars is a number."""

    number: Fraction
    scalars: "tuple[Matrix, ...]"
    body: "Matrix"


class Transpose(Around):
    """Aᵀ."""


class Inverse(Around):
    """A⁻¹."""


class Product(Joined):
    """A B …"""


@dataclass(frozen=True)
class Sum:
    """A + B + …"""

    terms: "tuple[Matrix, ...]"


class Hadamard(Joined):
    """A ∘ B ∘ …, entry by entry."""


class Kron(Joined):
    """A ⊗ B ⊗ …"""


@dataclass(frozen=True)
class Elementwise:
    """f, f', f'' … of each entry."""

    function: str
    order: int
    body: "Matrix"


@dataclass(frozen=True)
class EntryPower:
    """The power of each entry; the exponent is a number, a scalar, or as large as the base."""

    body: "Matrix"
    exponent: "Fraction | Matrix"


class Diag(Around):
    """The diagonal matrix with this vector on its diagonal."""


class Vec(Around):
    """The entries of a matrix row by row, as one vector."""


class Trace(Around):
    """The sum of the diagonal."""


class BlockDiag(Over):
    """The matrices for each value of an index, along the diagonal."""


class SumOver(Over):
    """Σ over the values of an index."""


Matrix = (
    Symbol
    | Dimension
    | Zeros
    | Ones
    | Identity
    | Commutation
    | Scaled
    | Transpose
    | Inverse
    | Product
    | Sum
    | Hadamard
    | Kron
    | Elementwise
    | EntryPower
    | Diag
    | Vec
    | Trace
    | BlockDiag
    | SumOver
)

ONE = Ones(())


def shape(node: Matrix) -> Shape:
    """The sizes that are counted along the rows and along the columns."""
    match node:
        case Symbol(_, rows, columns) | Zeros(rows, columns):
            return rows, columns
        case Dimension() | Trace():
            return (), ()
        case Ones(rows):
            return rows, ()
        case Identity(rows):
            return rows, rows
        case Commutation(rows, columns):
            return (*columns, *rows), (*rows, *columns)
        case Transpose(body) | Inverse(body):
            rows, columns = shape(body)
            return columns, rows
        case (
            Scaled(body=body) | Elementwise(body=body) | EntryPower(body=body) | SumOver(body=body)
        ):
            return shape(body)
        case Product(factors):
            return shape(factors[0])[0], shape(factors[-1])[1]
        case Sum(parts) | Hadamard(parts):
            return shape(parts[0])
        case Kron(factors):
            rows, columns = zip(*map(shape, factors), strict=True)
            return sum(rows, ()), sum(columns, ())
        case Diag(body):
            return shape(body)[0], shape(body)[0]
        case Vec(body):
            rows, columns = shape(body)
            return (*rows, *columns), ()
        case BlockDiag(_, size, body):
            rows, columns = shape(body)
            return (size, *rows), (size, *columns)


def children(node: Matrix) -> "tuple[Matrix, ...]":
    """The nodes directly inside."""
    match node:
        case Scaled(_, scalars, body):
            return (*scalars, body)
        case EntryPower(body, exponent):
            return (body,) if isinstance(exponent, Fraction) else (body, exponent)
        case Joined(parts) | Sum(parts):
            return parts
        case Around(body) | Over(body=body) | Elementwise(body=body):
            return (body,)
        case _:
            return ()


def walk(node: Matrix) -> "Iterator[Matrix]":
    """The node and all inside it."""
    yield node
    for child in children(node):
        yield from walk(child)


def depends(node: Matrix, index: str) -> bool:
    """Whether a fixed axis inside stands at the index."""
    # Inside a sum over an index of the same name, that name means its own.
    if isinstance(node, BlockDiag | SumOver) and node.index == index:
        return False
    if isinstance(node, Symbol):
        return any(name == index for _, name in node.fixed)
    return any(depends(child, index) for child in children(node))


def weight(node: Matrix) -> int:
    """How much there is to read: each symbol once, and what a reader stumbles over a little
    more."""
    # A vector of ones and a sum over an index make a reader stop; a transpose, a product or a
    # number does not.
    weights = {
        Ones: 2,
        SumOver: 2,
        BlockDiag: 1,
        Commutation: 1,
        Symbol: 1,
        Identity: 1,
        Dimension: 1,
        Inverse: 1,
        Vec: 1,
        Diag: 1,
    }
    return weights.get(type(node), 0) + sum(map(weight, children(node)))
