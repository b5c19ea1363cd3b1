"""Logarithms of products, quotients, powers and roots, taken apart.

log(u v) = log u + log v holds where both are positive. That a product is positive, for else it has
no logarithm, says so of its last factor where all others are known to be: by what is declared
(``given="l > 0"``), or by how they are made (exp(z), softmax(z), u²). Of two factors of which
nothing is known the signs may still be one another's opposites: log(u v) = log|u| + log|v| holds
for those too. Where an exponent varies, as in l^k, its base is positive.
"""

from collections.abc import Collection, Iterator
from fractions import Fraction

from hesse.derivation.sources.language.tree import (
    Binary,
    FunctionCall,
    Negative,
    Number,
    Symbol,
    Transpose,
    Tree,
)

_POSITIVE = frozenset({"exp", "sigmoid", "softplus", "softmax"})
_AS_ITS_ARGUMENT = frozenset({"sum", "mean"})
_NOT_NEGATIVE = frozenset({"abs", "norm2", "sqrt"})
_HALF = Number(Fraction(1, 2))

Factor = tuple[Tree, Tree | None, bool]  # a base, its exponent, and whether it divides


def apart(argument: Tree, positive: Collection[str]) -> Tree | None:
    """log(argument) as a sum, or None where the argument is no product and no power.

    Args:
        argument: of the logarithm; within |·|, log|u v| is taken apart too.
        positive: the names of arrays that are declared to be.

    Examples:
        >>> from hesse.derivation.sources.language.parsing import parse
        >>> from hesse.derivation.sources.language.tree import unparse
        >>> unparse(apart(parse("l*exp(-l*x)"), ()))
        'log(l) + log(exp(-l*x))'
        >>> unparse(apart(parse("x/y"), ())), unparse(apart(parse("x/y"), ["x", "y"]))
        ('log(abs(x)) - log(abs(y))', 'log(x) - log(y)')
    """
    match argument:
        case FunctionCall("abs", whole):
            signed = False
        case whole:
            signed = True
    parts = list(_factors(whole))
    if parts == [(whole, None, False)]:
        return None
    unknown = sum(not is_not_negative(_raised(base, to), positive) for base, to, _ in parts)
    result: Tree | None = None
    for base, exponent, divides in parts:
        sure = is_not_negative(base, positive) or _needs_positive_base(exponent)
        # The only factor of unknown sign has that of the product, if it has one: of x² not.
        plain = sure or (signed and unknown == 1 and not _is_even(exponent))
        log: Tree = FunctionCall("log", base if plain else FunctionCall("abs", base))
        term = log if exponent is None else Binary("*", exponent, log)
        if result is None:
            result = Negative(term) if divides else term
        else:
            result = Binary("-" if divides else "+", result, term)
    return result


def _factors(tree: Tree, divides: bool = False) -> Iterator[Factor]:
    match tree:
        case Binary("*" | "/" as operator, left, right):
            if left != Number(Fraction(1)):
                yield from _factors(left, divides)
            yield from _factors(right, divides != (operator == "/"))
        case Binary("**", base, exponent):
            yield base, exponent, divides
        case FunctionCall("sqrt", base):
            yield base, _HALF, divides
        case _:
            yield tree, None, divides


def _raised(base: Tree, exponent: Tree | None) -> Tree:
    return base if exponent is None else Binary("**", base, exponent)


def _whole(exponent: Tree | None) -> int | None:
    """An exponent as a whole number, where it is one."""
    match exponent:
        case None:
            return 1
        case Number(value) if value.denominator == 1:
            return int(value)
        case Negative(Number(value)) if value.denominator == 1:
            return -int(value)
    return None


def _is_even(exponent: Tree | None) -> bool:
    power = _whole(exponent)
    return power is not None and power % 2 == 0


def _needs_positive_base(exponent: Tree | None) -> bool:
    """Whether a power with it is defined for a positive base alone: √u, l^k."""
    return _whole(exponent) is None


def is_not_negative(tree: Tree, positive: Collection[str]) -> bool:
    """Whether a subtree is zero or more wherever it is defined. As a factor of what has a logarithm
    it is not zero, so it is positive then."""

    def known(part: Tree) -> bool:
        return is_not_negative(part, positive)

    match tree:
        case Number():
            return True
        case Symbol(name):
            return name in positive
        case FunctionCall(name, argument):
            if name in _POSITIVE | _NOT_NEGATIVE:
                return True
            return name in _AS_ITS_ARGUMENT and known(argument)
        case Binary("+" | "*" | "/" | "@", left, right):
            return known(left) and known(right)
        case Binary("**", base, exponent):
            return _is_even(exponent) or _needs_positive_base(exponent) or known(base)
        case Transpose(operand):
            return known(operand)
    return False
