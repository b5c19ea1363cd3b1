"""Words that are made of others: what a person writes, as what is derived."""

from collections.abc import Callable
from fractions import Fraction

from hesse.derivation.calculus.structures import SUMS, windows
from hesse.derivation.sources.language.tree import (
    Along,
    Binary,
    FunctionCall,
    Kron,
    Negative,
    NewAxis,
    Number,
    Tree,
)

_ONE, _TWO = Number(Fraction(1)), Number(Fraction(2))
_HALF = Binary("/", _ONE, _TWO)


def call(name: str, argument: Tree, axis: int | None = None) -> Tree:
    """A function of one argument."""
    return FunctionCall(name, argument, axis)


def minus(left: Tree, right: Tree) -> Tree:
    """The difference; of what is subtracted from nothing, or nothing from it, less."""
    if right == Number(Fraction(0)):
        return left
    return Negative(right) if left == Number(Fraction(0)) else Binary("-", left, right)


def maximum(u: Tree, v: Tree) -> Tree:
    """max(u, v) = v + relu(u − v); max(u, 0) = relu(u)"""
    if u == Number(Fraction(0)):
        u, v = v, u
    if v == Number(Fraction(0)):
        return call("relu", u)
    return Binary("+", v, call("relu", Binary("-", u, v)))


def minimum(u: Tree, v: Tree) -> Tree:
    """min(u, v) = v − relu(v − u)"""
    if u == Number(Fraction(0)):
        u, v = v, u
    return minus(v, call("relu", minus(v, u)))


def clip(u: Tree, low: Tree, high: Tree) -> Tree:
    """u between two numbers: low + relu(u − low) − relu(u − high)"""
    inner = Binary("-", call("relu", minus(u, low)), call("relu", minus(u, high)))
    return inner if low == Number(Fraction(0)) else Binary("+", low, inner)


def huber(u: Tree, delta: Tree = _ONE) -> Tree:
    """u²/2 where |u| < δ, and the line δ (|u| − δ/2) beyond"""
    size = call("abs", u)
    line = Binary("-", size, Binary("/", delta, _TWO))
    parabola = Binary("*", _HALF, Binary("**", u, _TWO))
    beyond = line if delta == _ONE else Binary("*", delta, line)
    return where(call("step", Binary("-", delta, size)), parabola, beyond)


def where(condition: Tree, u: Tree, v: Tree) -> Tree:
    """u where the condition holds and v elsewhere: s u + (1 − s) v, s = 1 where it holds"""
    zero = Number(Fraction(0))
    first = Binary("*", condition, u)
    second = Binary("*", Binary("-", _ONE, condition), v)
    if v == zero:
        return first
    return second if u == zero else Binary("+", first, second)


def var(u: Tree, axis: int | None = None) -> Tree:
    """mean((u − mean(u))²), the variance that divides by the number of entries; along an axis
    mean(u²) − mean(u)²"""
    mean = call("mean", u, axis)
    if axis is None:
        return call("mean", Binary("**", Binary("-", u, mean), _TWO))
    squares = call("mean", Binary("**", u, _TWO), axis)
    return Binary("-", squares, Binary("**", mean, _TWO))


def std(u: Tree, axis: int | None = None) -> Tree:
    """√var(u)"""
    return call("sqrt", var(u, axis))


def average(u: Tree, weights: Tree) -> Tree:
    """Σ w u / Σ w"""
    return Binary("/", call("sum", Binary("*", weights, u)), call("sum", weights))


def outer(u: Tree, v: Tree) -> Tree:
    """u vᵀ, of two vectors"""
    return Binary("*", NewAxis(u, -1), v)


def cumsum(u: Tree, axis: int | None = None) -> Tree:
    """The sums of the first entries: L u, with L lower triangular and of ones"""
    return Along(u, SUMS, axis)


def diff(u: Tree, axis: int = -1) -> Tree:
    """u[1:] − u[:-1]"""
    later, sooner = (Along(u, windows([(w, Fraction(1))]), axis) for w in ((1, None), (None, -1)))
    return Binary("-", later, sooner)


def kron(u: Tree, v: Tree) -> Tree:
    """u ⊗ v"""
    return Kron(u, v)


def norm(u: Tree, *, axis: int | None = None) -> Tree:
    """The Euclidean norm of a vector, the Frobenius norm of a matrix; others are not called so
    here."""
    return call("norm2", u, axis)


COMPOSED: dict[str, Callable[..., Tree]] = {
    **{f.__name__: f for f in (maximum, minimum, clip, huber, where, var, std, average, outer)},
    **{f.__name__: f for f in (cumsum, diff, kron)},
    "max": maximum,
    "min": minimum,
    "clamp": clip,
    "norm": norm,
}

# What libraries call functions of the records.
SYNONYMS: dict[str, str] = {
    **{f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **dict.fromkeys(("gammaln", "loggamma"), "lgamma"),
    **dict.fromkeys(("ndtr", "norm_cdf"), "normcdf"),
    "norm_pdf": "normpdf",
}
