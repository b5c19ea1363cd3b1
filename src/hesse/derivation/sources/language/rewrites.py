"""What a person would write first: the same cost in the form whose derivatives are known."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from hesse.derivation.calculus.structures import Window, windows
from hesse.derivation.sources.language.logarithms import apart, is_not_negative
from hesse.derivation.sources.language.tree import (
    Along,
    Binary,
    FunctionCall,
    Kron,
    Negative,
    Number,
    Symbol,
    Transpose,
    Tree,
    placed,
    rebuilt,
)
from hesse.derivation.sources.language.vocabulary import (
    along_an_axis,
    along_the_last,
    kept_axes,
    of_a_matrix,
)


@dataclass(frozen=True)
class Known:
    """What a rewrite may ask of a tree.

    Attributes:
        rank: the number of axes of a subtree.
        positive: the names of arrays that are declared to be.
    """

    rank: Callable[[Tree], int]
    positive: frozenset[str] = frozenset()


_ONE, _TWO = Number(Fraction(1)), Number(Fraction(2))


def rewritten(tree: Tree, known: Known) -> Tree:
    """The tree with every rewrite of `REWRITES` made, innermost first, until none fits.

    Args:
        tree: a tree whose shapes fit.
        known: what is known of its parts.
    """
    # Innermost first: log(softmax(z)) is seen only once the softmax is.
    tree = rebuilt(tree, lambda child: rewritten(child, known))
    for rewrite in REWRITES:
        better = rewrite(tree, known)
        if better is not None and better != tree:
            # What a rewrite made may fit another.
            return rewritten(placed(better, tree.span), known)
    return tree


def negated(tree: Tree) -> Tree | None:
    """u where the tree is −u, or a product whose first factor is negative; None otherwise."""
    match tree:
        case Negative(operand):
            return operand
        case Binary("*" | "/" | "@", left, _) if (positive := negated(left)) is not None:
            return replace(tree, left=positive)
    return None


def _sign(tree: Tree, known: Known) -> Tree | None:
    """−(−u) = u, and of a product −(−u v) = u v"""
    match tree:
        case Negative(u):
            return negated(u)
    return None


def _transpose(tree: Tree, known: Known) -> Tree | None:
    """u.T = u for a vector; X.T.T = X; f(X.T) = f(X).T; inv(X.T) = inv(X).T; det(X.T) = det(X)"""
    match tree:
        case Transpose(u) if known.rank(u) < 2:
            return u
        case Transpose(Transpose(u)):
            return u
        case FunctionCall(name, Transpose(u)) if (
            name == "inv" or name not in along_an_axis() | of_a_matrix()
        ):
            return Transpose(FunctionCall(name, u))
        case FunctionCall("det" | "logdet" | "trace" as name, Transpose(u)) if known.rank(u) == 2:
            return FunctionCall(name, u)
    return None


def _axis(tree: Tree, known: Known) -> Tree | None:
    """The functions of a whole array act along its last axis: softmax(X, axis=0) =
    softmax(X.T).T"""
    match tree:
        case FunctionCall("prod" as name, u, None) if known.rank(u) > 1:
            return FunctionCall(name, FunctionCall(name, u, known.rank(u) - 1))
        case FunctionCall(name, u, int(axis)) if name in along_the_last():
            # Without an axis the product is that of all entries.
            last = known.rank(u) - 1 if name == "prod" and known.rank(u) > 1 else None
            if axis % known.rank(u) == known.rank(u) - 1:
                return FunctionCall(name, u, last)
            if known.rank(u) == 2:
                flipped = FunctionCall(name, Transpose(u), last)
                return Transpose(flipped) if kept_axes(name) else flipped
        case FunctionCall("sum" | "mean" | "norm2" as name, u, int(axis)):
            axes = known.rank(u)
            return FunctionCall(name, u) if axes == 1 else FunctionCall(name, u, axis % axes)
    return None


def _log(tree: Tree, known: Known) -> Tree | None:
    """log of what has a name of its own"""
    match tree:
        case FunctionCall("log", FunctionCall("sigmoid", z)):
            return Negative(FunctionCall("softplus", Negative(z)))
        case FunctionCall("log", Binary("-", Number(one), FunctionCall("sigmoid", z))) if one == 1:
            return Negative(FunctionCall("softplus", z))
        case FunctionCall(
            "log",
            Binary("+", Number(one), FunctionCall("exp", z))
            | Binary("+", FunctionCall("exp", z), Number(one)),
        ) if one == 1:
            return FunctionCall("softplus", z)
        case FunctionCall("log", FunctionCall("softmax", z)):
            return FunctionCall("log_softmax", z)
        case FunctionCall("log", FunctionCall("sum", FunctionCall("exp", z), axis)) if (
            axis is not None or known.rank(z) == 1
        ):
            return FunctionCall("logsumexp", z, axis)
        case FunctionCall(
            "log", FunctionCall("det", X) | FunctionCall("abs", FunctionCall("det", X))
        ):
            return FunctionCall("logdet", X)
        case FunctionCall("log", FunctionCall("exp", z)):
            return z
        case FunctionCall("log", FunctionCall("prod", u, axis)):
            # What has a logarithm is positive: of the factors an even number are not.
            return FunctionCall("sum", rewritten(_log_of_size(u, known), known), axis)
        case FunctionCall("log", u):
            return apart(u, known.positive)
    return None


def _log_of_size(u: Tree, known: Known) -> Tree:
    """log u where u is known to be positive, log|u| elsewhere"""
    positive = is_not_negative(u, known.positive)
    return FunctionCall("log", u if positive else FunctionCall("abs", u))


def _softplus(tree: Tree, known: Known) -> Tree | None:
    """softplus(−z) = softplus(z) − z"""
    match tree:
        case FunctionCall("softplus", u) if (z := negated(u)) is not None:
            return Binary("-", FunctionCall("softplus", z), z)
    return None


def _quotient(tree: Tree, known: Known) -> Tree | None:
    """1/(1 + exp(−z)) = sigmoid(z) = exp(z)/(1 + exp(z)); exp(z)/sum(exp(z)) = softmax(z)"""
    match tree:
        case Binary(
            "/",
            above,
            Binary("+", Number(one), FunctionCall("exp", u))
            | Binary("+", FunctionCall("exp", u), Number(one)),
        ) if one == 1:
            if above == _ONE:
                z = negated(u)
                return FunctionCall("sigmoid", Negative(u) if z is None else z)
            if above == FunctionCall("exp", u):
                return FunctionCall("sigmoid", u)
        case Binary(
            "/", FunctionCall("exp", z), FunctionCall("sum", FunctionCall("exp", same), None)
        ) if z == same and known.rank(z) == 1:
            return FunctionCall("softmax", z)
    return None


def _residual(tree: Tree, known: Known) -> Tree | None:
    """y − u − v = y − (u + v): what is compared with y stands together"""
    match tree:
        case Binary("-", Binary("-", Symbol() as y, u), v):
            return Binary("-", y, Binary("+", u, v))
    return None


def _slices(tree: Tree, known: Known) -> Tree | None:
    """x[1:] − x[:-1] = D x, and other sums of slices of one array"""
    match tree:
        case Binary("+" | "-" as sign, left, right):
            first, second = _rows(left), _rows(right)
            if first and second and first[:2] == second[:2]:
                by = 1 if sign == "+" else -1
                terms = dict(first[2])
                for window, times in second[2]:
                    terms[window] = terms.get(window, Fraction(0)) + by * times
                kept = [(window, times) for window, times in terms.items() if times]
                return Along(first[0], windows(kept), first[1]) if kept else None
    return None


def _rows(tree: Tree) -> tuple[Tree, int | None, list[tuple[Window, Fraction]]] | None:
    """Of a sum of slices, or of numbers times them, the array, the axis and the slices."""
    match tree:
        case Along(u, pattern, axis) if pattern.windows:
            return u, axis, [*zip(pattern.windows, pattern.times, strict=True)]
        case Binary("*", Number(number), inner) | Binary("*", inner, Number(number)):
            pass
        case Negative(inner):
            number = Fraction(-1)
        case _:
            return None
    found = _rows(inner)
    return found and (*found[:2], [(window, number * times) for window, times in found[2]])


def _kron(tree: Tree, known: Known) -> Tree | None:
    """(A ⊗ B)ᵀ = Aᵀ ⊗ Bᵀ; Σ (A ⊗ B)^∘2 = Σ A^∘2 Σ B^∘2"""
    match tree:
        case Transpose(Kron(left, right)):
            return Kron(Transpose(left), Transpose(right))
        case FunctionCall("sum", Binary("**", Kron(left, right), Number(power)), None):
            first, second = (
                FunctionCall("sum", Binary("**", side, Number(power))) for side in (left, right)
            )
            return Binary("*", first, second)
    return None


def _norm(tree: Tree, known: Known) -> Tree | None:
    """norm2(u)² = sum(u²), norm2(u)⁴ = sum(u²)²"""
    match tree:
        case Binary("**", FunctionCall("norm2", u, axis), Number(power)) if (
            power and power % 2 == 0
        ):
            squares = FunctionCall("sum", Binary("**", u, _TWO), axis)
            return squares if power == 2 else Binary("**", squares, Number(power / 2))
    return None


REWRITES: tuple[Callable[[Tree, Known], Tree | None], ...] = (
    _sign,
    _transpose,
    _axis,
    _quotient,
    _log,
    _softplus,
    _norm,
    _slices,
    _kron,
    _residual,
)
