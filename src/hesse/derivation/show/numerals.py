"""Numbers in Unicode: ½, x², f''."""

from fractions import Fraction

_RAISED = str.maketrans("0123456789-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")
_VULGAR = {
    Fraction(1, 2): "½", Fraction(1, 3): "⅓", Fraction(2, 3): "⅔", Fraction(1, 4): "¼", Fraction(3,
    4): "¾", Fraction(1, 5): "⅕", Fraction(1, 6): "⅙", Fraction(5, 6): "⅚", Fraction(1, 8): "⅛",
    Fraction(3, 8): "⅜",
}  # fmt: skip


def raised(number: object) -> str:
    """A whole number as an exponent.

    Examples:
        >>> f"x{raised(-12)}"
        'x⁻¹²'
    """
    return str(number).translate(_RAISED)


def rational(value: Fraction) -> str:
    """A positive rational number: whole, one sign, a decimal where that is shorter, or a quotient.

    Examples:
        >>> [rational(Fraction(1, k)) for k in (1, 2, 7, 1000)]
        ['1', '½', '1/7', '0.001']
    """
    return decimal(value) or _VULGAR.get(value) or str(value)


def decimal(value: Fraction) -> str | None:
    """A number as a decimal where a fraction would be longer: 0.001 for 1/1000."""
    return f"{float(value):.12g}" if value.denominator > 100 else None


def primes(order: int) -> str:
    """The primes of a derivative: ``''`` for the second."""
    return "'" * order if order <= 3 else f"⁽{raised(order)}⁾"
