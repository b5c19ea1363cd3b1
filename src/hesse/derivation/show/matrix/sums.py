"""Sums of matrices as a person leaves them: like terms added, and common factors in front where
that leaves less to read."""

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, count

from hesse.derivation.show.matrix.compose import (
    block_diag,
    diag,
    entry_power,
    hadamard,
    is_scalar,
    is_vector,
    kron,
    product,
    scaled,
    split,
    sum_over,
    transpose,
)
from hesse.derivation.show.matrix.nodes import (
    ONE,
    BlockDiag,
    Diag,
    EntryPower,
    Hadamard,
    Identity,
    Kron,
    Matrix,
    Over,
    Product,
    Sum,
    SumOver,
    Transpose,
    Zeros,
    shape,
    weight,
)

Factors = tuple[Matrix, ...]
Front = tuple[Fraction, Factors]  # a number and scalars

# Terms of a sum in which common factors are sought: every pair is tried, and a sum of more is read
# by nobody.
_MOST = 32


def add(*parts: Matrix) -> Matrix:
    """The sum of matrices of one shape."""
    collected: dict[
        tuple[Matrix, frozenset[tuple[Matrix, int]]], tuple[Fraction, tuple[Matrix, ...]]
    ] = {}
    for number, scalars, body in (term for part in parts for term in _terms(part)):
        # Scalars commute: 2 s t A and 3 t s A are like terms.
        key = body, frozenset(Counter(scalars).items())
        before, kept = collected.get(key, (Fraction(0), scalars))
        collected[key] = before + number, kept
    terms = [
        scaled(number, scalars, body)
        for (body, _), (number, scalars) in collected.items()
        if number != 0
    ]
    if not terms:
        return Zeros(*shape(parts[0]))
    return _outside(_factored(terms))


def _terms(node: Matrix) -> list[tuple[Fraction, tuple[Matrix, ...], Matrix]]:
    """The terms of a sum, what stands in front of its parentheses multiplied in."""
    number, scalars, body = split(node)
    if isinstance(body, Zeros):
        return []
    if not isinstance(body, Sum):
        return [_parts(node)]
    return [
        (number * n, (*scalars, *more), inner)
        for term in body.terms
        for n, more, inner in _terms(term)
    ]


def _parts(node: Matrix) -> tuple[Fraction, Factors, Matrix]:
    """The number, the scalars and the matrix; a scalar has no matrix beside it."""
    number, scalars, body = split(node)
    return (
        (number, (*scalars, body), ONE)
        if is_scalar(body) and body != ONE
        else (number, scalars, body)
    )


def _factored(terms: list[Matrix]) -> list[Matrix]:
    """Pairs of terms with something in common become one, as long as that shortens."""
    if len(terms) > _MOST:
        return terms
    kept, numbers = dict(enumerate(terms)), count(len(terms))
    # Every pair is tried once: of n terms that meet one by one they would be n³.
    apart: set[tuple[int, int]] = set()
    ends = {place: _ends(term) for place, term in kept.items()}
    while True:
        for a, b in combinations(kept, 2):
            if ends[a].isdisjoint(ends[b]) or (a, b) in apart:
                continue
            merged = _merged(kept[a], kept[b])
            if merged is not None and weight(merged) < weight(kept[a]) + weight(kept[b]):
                # The sum has changed: the new term may shorten with every other.
                new = {a: (number := next(numbers), merged)}
                ends[number] = _ends(merged)
                kept = dict(new.get(k, (k, term)) for k, term in kept.items() if k != b)
                break
            apart.add((a, b))
        else:
            return [*kept.values()]


def _ends(term: Matrix) -> frozenset[object]:
    """What two terms may have in common to become one; without any of it they stay two."""
    _, scalars, body = _parts(term)
    if body == ONE:
        return frozenset(scalars)
    factors = body.factors if isinstance(body, Product) else (body,)
    own: tuple[object, ...] = ((Product, 0, factors[0]), (Product, -1, factors[-1]))
    match body:
        case SumOver(index, size) | BlockDiag(index, size):
            own = (*own, (type(body), index, size))
        case Diag():
            own = (*own, Diag)
        case Kron(parts):
            own = (*own, (Kron, 0, parts[0]), (Kron, -1, parts[-1]))
        case Hadamard(parts):
            own = (*own, *((Hadamard, part) for part in _unfolded(parts)))
    return frozenset((*scalars, *own))


def _outside(terms: list[Matrix]) -> Matrix:
    """The terms as one sum, a positive one first, numbers and scalars that all share in front."""
    if len(terms) == 1:
        return terms[0]
    parts = [_parts(term) for term in terms]
    lists = [scalars for _, scalars, _ in parts]
    # Of a number p² − 2 p is p (p − 2); in front of matrices a power stays whole.
    if all(body == ONE for _, _, body in parts):
        shared, rests = _shared(list(map(_unfolded, lists)))
        shared, rests = _folded(shared), list(map(_folded, rests))
    else:
        shared, rests = _shared(lists)
    numbers = [number for number, _, _ in parts]
    common = abs(numbers[0]) if len({abs(number) for number in numbers}) == 1 else Fraction(1)
    if all(number < 0 for number in numbers):
        common = -common
    inner = [
        scaled(number / common, rest, body)
        for (number, _, body), rest in zip(parts, rests, strict=True)
    ]
    # k ((x − 1) + k x) is k ((1 + k) x − 1).
    if any(isinstance(term, Sum) for term in inner):
        return scaled(common, shared, add(*inner))
    # A before Aᵀ, and before all else a term that is not taken away.
    inner.sort(key=lambda term: isinstance(split(term)[2], Transpose))
    first = next((k for k, term in enumerate(inner) if split(term)[0] > 0), 0)
    inner.insert(0, inner.pop(first))
    return scaled(common, shared, Sum(tuple(_pairs_together(inner))))


def _pairs_together(terms: list[Matrix]) -> list[Matrix]:
    """The terms with each beside its transpose: A + Aᵀ − λ I − x gᵀ − g xᵀ."""
    terms = list(terms)
    for term in list(terms):
        here, turned = terms.index(term), transpose(term)
        if turned == term or turned not in terms[here + 2 :]:
            continue
        there = terms.index(turned)
        # What is no product leads a sum; outer products end it.
        if here and isinstance(split(term)[2], Product):
            terms.insert(there, terms.pop(here))
        else:
            terms.insert(here + 1, terms.pop(there))
    return terms


def _shared(lists: list[tuple[Matrix, ...]]) -> tuple[tuple[Matrix, ...], list[tuple[Matrix, ...]]]:
    """What all lists have in common, and what is left of each."""
    common = Counter(lists[0])
    for other in lists[1:]:
        common &= Counter(other)
    rests = []
    for items in lists:
        left, rest = Counter(common), []
        for item in items:
            if left[item]:
                left[item] -= 1
            else:
                rest.append(item)
        rests.append(tuple(rest))
    return tuple(common.elements()), rests


def _unfolded(scalars: Factors) -> Factors:
    """p² as p p."""
    flat: list[Matrix] = []
    for scalar in scalars:
        match scalar:
            case EntryPower(body, Fraction() as power) if power.denominator == 1 and 1 < power < 9:
                flat += [body] * int(power)
            case _:
                flat.append(scalar)
    return tuple(flat)


def _folded(scalars: Factors) -> Factors:
    """p p as p²."""
    return tuple(entry_power(base, Fraction(times)) for base, times in Counter(scalars).items())


def _merged(a: Matrix, b: Matrix) -> Matrix | None:
    """``a + b`` as one product, where they share a factor."""
    (m, s, left), (n, t, right) = _parts(a), _parts(b)
    if left == right:
        # p² (1 − p)² + p (1 − p) q is p (1 − p) (p (1 − p) + q).
        shared, (s, t) = _shared([_unfolded(s), _unfolded(t)])
        shared, s, t = _folded(shared), _folded(s), _folded(t)
    else:
        shared, (s, t) = _shared([s, t])
    # A number that both have comes to the front, and a sign that both have.
    outer = abs(m) if abs(m) == abs(n) else Fraction(1)
    if m < 0 and n < 0:
        outer = -outer
    m, n = m / outer, n / outer
    if left == right == ONE and not shared:
        return None
    if left == right:
        return scaled(outer, (*shared, add(scaled(m, s, ONE), scaled(n, t, ONE))), left)
    body = None
    match left, right:
        case ((SumOver(index, size, x) | BlockDiag(index, size, x)), Over(other, number, y)) if (
            type(left) is type(right) and (index, size) == (other, number)
        ):
            put = sum_over if isinstance(left, SumOver) else block_diag
            body = put(index, size, add(scaled(m, s, x), scaled(n, t, y)))
        case (Diag(x), Diag(y)):
            body = diag(add(scaled(m, s, x), scaled(n, t, y)))
        case (Kron(xs), Kron(ys)):
            body = _around(xs, ys, kron, (m, s), (n, t))
        case (Hadamard(xs), Hadamard(ys)):
            common, (x, y) = _shared([_unfolded(xs), _unfolded(ys)])
            if common and x and y:
                body = hadamard(
                    *common, add(scaled(m, s, hadamard(*x)), scaled(n, t, hadamard(*y)))
                )
        case (Product() | _, Product() | _):
            xs, ys = (
                node.factors if isinstance(node, Product) else (node,) for node in (left, right)
            )
            body = _around(xs, ys, product, (m, s), (n, t))
    if body is None and shared and left != ONE and right != ONE:
        body = add(scaled(m, s, left), scaled(n, t, right))
    return None if body is None else scaled(outer, shared, body)


def _around(
    xs: Factors, ys: Factors, put: Callable[..., Matrix], m: Front, n: Front
) -> Matrix | None:
    """What two lists of factors begin with and end with, around the sum of what is between."""
    length = min(len(xs), len(ys))
    first = next((k for k in range(length) if xs[k] != ys[k]), length)
    last = next((k for k in range(length - first) if xs[-1 - k] != ys[-1 - k]), length - first)
    if first == last == 0:
        return None
    if put is product and length == first + last and not (first and last):
        return None  # A B − A is not A (B − I)
    middles = []
    for factors, (number, scalars) in ((xs, m), (ys, n)):
        inside = factors[first : len(factors) - last]
        middles.append(
            scaled(number, scalars, put(*inside) if inside else _unit(factors, first, put))
        )
    if shape(middles[0]) != shape(middles[1]):
        return None
    # u vᵀ + s u wᵀ stays: u (v + s w)ᵀ hides what is symmetric.
    if any(is_vector(middle) or is_vector(transpose(middle)) for middle in middles) and (
        m[1] or n[1]
    ):
        return None
    before, after = xs[:first], xs[len(xs) - last :]
    return put(*before, add(*middles), *after)


def _unit(factors: Factors, place: int, put: Callable[..., Matrix]) -> Matrix:
    """What changes nothing at a place in a product."""
    if put is kron:
        return ONE
    rows = shape(factors[place])[0] if place < len(factors) else shape(factors[-1])[1]
    return Identity(rows) if rows else ONE
