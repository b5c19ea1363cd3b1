"""Products, sums and their kin put together with what is trivial left out: no I in a product, no
Aᵀᵀ, numbers in front."""

from dataclasses import replace
from fractions import Fraction

from hesse.derivation.calculus.expression import Size
from hesse.derivation.show.matrix.nodes import (
    ONE,
    BlockDiag,
    Commutation,
    Diag,
    Dimension,
    EntryPower,
    Hadamard,
    Identity,
    Inverse,
    Kron,
    Matrix,
    Ones,
    Product,
    Scaled,
    Sum,
    SumOver,
    Symbol,
    Trace,
    Transpose,
    Vec,
    Zeros,
    depends,
    shape,
    walk,
)


def is_vector(node: Matrix) -> bool:
    """Whether it is one column."""
    return not shape(node)[1]


def is_scalar(node: Matrix) -> bool:
    """Whether it is one entry."""
    return shape(node) == ((), ())


def split(node: Matrix) -> tuple[Fraction, tuple[Matrix, ...], Matrix]:
    """The number, the scalars and the matrix whose product a node is."""
    return (
        (node.number, node.scalars, node.body)
        if isinstance(node, Scaled)
        else (Fraction(1), (), node)
    )


def scaled(number: Fraction, scalars: tuple[Matrix, ...], body: Matrix) -> Matrix:
    """A number times scalars times a matrix; a scalar matrix is one more scalar."""
    inner, more, body = split(body)
    number, scalars = number * inner, (*scalars, *more)
    kept: list[Matrix] = []
    for scalar in scalars:
        factor, also, rest = split(scalar)
        number *= factor
        kept += [inner for inner in (*also, rest) if inner != ONE]
    if number == 0 or isinstance(body, Zeros):
        return Zeros(*shape(body))
    if is_scalar(body) and body != ONE:
        kept, body = [*kept, body], ONE
    if number == 1 and len(kept) == 1 and body == ONE:
        return kept[0]
    return body if number == 1 and not kept else Scaled(number, tuple(kept), body)


def _without_scalars(
    factors: tuple[Matrix, ...],
) -> tuple[Fraction, tuple[Matrix, ...], list[Matrix]]:
    number, scalars, bodies = Fraction(1), [], []
    for factor in factors:
        value, more, body = split(factor)
        number *= value
        scalars += more
        bodies.append(body)
    return number, tuple(scalars), bodies


def product(*factors: Matrix) -> Matrix:
    """A B …, with what is diagonal taken together."""
    number, scalars, bodies = _without_scalars(factors)
    flat: list[Matrix] = []
    for body in bodies:
        for factor in body.factors if isinstance(body, Product) else (body,):
            before = flat[-1] if flat else None
            if isinstance(factor, Identity) or (factor == ONE and before is not None):
                continue
            if isinstance(before, Diag) and isinstance(factor, Diag):
                flat[-1] = diag(hadamard(before.body, factor.body))
            # diag(u) v is u ∘ v, and K turns back what the K before it has turned.
            elif isinstance(before, Diag) and is_vector(factor):
                flat[-1] = hadamard(before.body, factor)
            elif isinstance(before, Commutation) and factor == Commutation(
                before.columns, before.rows
            ):
                flat.pop()
            else:
                flat.append(factor)
    # Nothing but I, and commutations that undo each other.
    if not flat:
        return scaled(number, scalars, Identity(shape(bodies[0])[0]))
    if len(flat) > 1 and flat[0] == ONE:
        flat = flat[1:]
    return scaled(number, scalars, flat[0] if len(flat) == 1 else Product(tuple(flat)))


def kron(*factors: Matrix) -> Matrix:
    """A ⊗ B ⊗ …; the Kronecker product of identities is the identity."""
    number, scalars, bodies = _without_scalars(factors)
    flat: list[Matrix] = []
    for body in bodies:
        for factor in body.factors if isinstance(body, Kron) else (body,):
            if isinstance(factor, Identity) and flat and isinstance(flat[-1], Identity):
                flat[-1] = Identity((*flat[-1].rows, *factor.rows))
            elif isinstance(factor, Ones) and flat and isinstance(flat[-1], Ones):
                flat[-1] = Ones((*flat[-1].rows, *factor.rows))
            elif is_scalar(factor):
                scalars = (*scalars, factor)
            else:
                flat.append(factor)
    return scaled(number, scalars, Kron(tuple(flat)) if len(flat) > 1 else flat[0] if flat else ONE)


def is_ones(node: Matrix) -> bool:
    """Whether every entry is one."""
    match node:
        case Ones():
            return True
        case Transpose(body):
            return is_ones(body)
        case Product((left, right)):
            return is_ones(left) and is_ones(right) and is_vector(left)
        case Kron(factors):
            return all(map(is_ones, factors))
        case _:
            return False


def hadamard(*factors: Matrix) -> Matrix:
    """A ∘ B ∘ …, equal factors as powers."""
    number, scalars, bodies = _without_scalars(factors)
    exponents: dict[Matrix, Fraction] = {}
    for body in bodies:
        for factor in body.factors if isinstance(body, Hadamard) else (body,):
            base, exponent = (factor, Fraction(1))
            if isinstance(factor, EntryPower) and isinstance(factor.exponent, Fraction):
                base, exponent = factor.body, factor.exponent
            # Roots stay as they are: x^½ ∘ x^½ is x only where x is not negative.
            if exponent.denominator == 1 and exponent > 0 and not is_ones(factor):
                exponents[base] = exponents.get(base, Fraction(0)) + exponent
            elif not is_ones(factor):
                exponents[factor] = exponents.get(factor, Fraction(0)) + 1
    flat = [entry_power(base, exponent) for base, exponent in exponents.items()]
    return scaled(
        number, scalars, Hadamard(tuple(flat)) if len(flat) > 1 else flat[0] if flat else bodies[0]
    )


def entry_power(body: Matrix, exponent: "Fraction | Matrix") -> Matrix:
    """Each entry to a power."""
    if exponent == 1 or (is_ones(body) and isinstance(exponent, Fraction)):
        return body
    if isinstance(exponent, Fraction) and exponent.denominator == 1 and isinstance(body, Scaled):
        whole = int(exponent)
        powers = tuple(entry_power(scalar, exponent) for scalar in body.scalars)
        return scaled(body.number**whole, powers, entry_power(body.body, exponent))
    # Zeros and ones are their own powers.
    if isinstance(body, Identity) and isinstance(exponent, Fraction) and exponent > 0:
        return body
    return EntryPower(body, exponent)


def transpose(node: Matrix) -> Matrix:
    """The transpose, brought inside where that costs nothing."""
    if is_scalar(node):
        return node
    match node:
        case Transpose(body):
            return body
        case Diag() | Identity() | Symbol(symmetric=True) | Inverse(Symbol(symmetric=True)):
            return node
        case Zeros(rows, columns):
            return Zeros(columns, rows)
        case Commutation(rows, columns):
            return Commutation(columns, rows)
        case Product(factors):
            return product(*(transpose(factor) for factor in reversed(factors)))
        case Kron(factors):
            return kron(*(transpose(factor) for factor in factors))
        case Scaled() | SumOver() | BlockDiag():
            return replace(node, body=transpose(node.body))
        case Sum(parts) | Hadamard(parts):
            turned = tuple(transpose(part) for part in parts)
            # A + Aᵀ and A ∘ Aᵀ are symmetric.
            if set(turned) == set(parts):
                return node
            inside = type(node)(turned)
            return inside if _transposes(inside) <= _transposes(node) else Transpose(node)
        case _:
            return Transpose(node)


def _transposes(node: Matrix) -> int:
    return sum(isinstance(inner, Transpose) for inner in walk(node))


def diag(vector: Matrix) -> Matrix:
    """diag(v)."""
    match vector:
        case Scaled(number, scalars, body):
            return scaled(number, scalars, diag(body))
        case Ones(rows):
            return Identity(rows)
        case Product((Hadamard((Identity(), *_)) as inner, Ones())):
            return inner
        case _:
            return Diag(vector)


def diagonal(matrix: Matrix) -> Matrix:
    """The diagonal of a square matrix, as a vector."""
    match matrix:
        case Scaled(number, scalars, body):
            return scaled(number, scalars, diagonal(body))
        case Identity(rows):
            return Ones(rows)
        case Diag(body):
            return body
        case Product((left, right)) if is_vector(left):
            return hadamard(left, transpose(right))
        case Transpose(body):
            return diagonal(body)
        case _:
            # (I ∘ A) 1: there is no shorter sign for the diagonal of a matrix as a vector.
            rows = shape(matrix)[0]
            return Product((Hadamard((Identity(rows), matrix)), Ones(rows)))


def vec(matrix: Matrix) -> Matrix:
    """The entries row by row."""
    match matrix:
        case Scaled(number, scalars, body):
            return scaled(number, scalars, vec(body))
        case _ if is_vector(matrix):
            return matrix
        case Product((left, right)) if is_vector(left):
            return kron(left, transpose(right))
        case _:
            return Vec(matrix)


def trace(matrix: Matrix) -> Matrix:
    """The sum of the diagonal."""
    match matrix:
        case Scaled(number, scalars, body):
            return scaled(number, scalars, trace(body))
        case _:
            # tr(A) = tr(Aᵀ): whichever has fewer signs to read.
            return Trace(min(matrix, transpose(matrix), key=_transposes))


def sum_over(index: str, size: Size, body: Matrix) -> Matrix:
    """Σ over an index, with all that does not depend on it in front of the sum or behind it."""
    # The same summand as often as the index has values.
    if not depends(body, index):
        times = (Dimension(size),) if isinstance(size, str) else ()
        return scaled(Fraction(size) if isinstance(size, int) else Fraction(1), times, body)
    number, scalars, inner = split(body)
    free = tuple(scalar for scalar in scalars if not depends(scalar, index))
    tied = tuple(scalar for scalar in scalars if depends(scalar, index))
    factors, put = (
        (inner.factors, type(inner)) if isinstance(inner, Kron | Product) else ((inner,), Product)
    )
    # What stands between the first and the last factor that depend on the index stays under the
    # sum: the order of factors matters.
    within = [place for place, factor in enumerate(factors) if depends(factor, index)]
    if not within:
        return scaled(number, (*free, SumOver(index, size, scaled(Fraction(1), tied, ONE))), inner)
    together = kron if put is Kron else product
    first, last = within[0], within[-1] + 1
    core = SumOver(index, size, scaled(Fraction(1), tied, together(*factors[first:last])))
    return scaled(number, free, together(*factors[:first], core, *factors[last:]))


def block_diag(index: str, size: Size, body: Matrix) -> Matrix:
    """The blocks along the diagonal; I ⊗ body where all are the same."""
    if not depends(body, index):
        return kron(Identity((size,)), body)
    if isinstance(body, Scaled) and not any(depends(scalar, index) for scalar in body.scalars):
        return scaled(body.number, body.scalars, block_diag(index, size, body.body))
    return BlockDiag(index, size, body)
