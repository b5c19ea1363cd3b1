"""The symbols of a matrix formula: W1, row n of X as x_n, ∂z3/∂z2 as a fraction."""

from collections.abc import Callable

from hesse.derivation.show.matrix.nodes import Shown, Symbol
from hesse.derivation.show.names import latex_name, text_name
from hesse.derivation.show.numerals import raised


def text_symbol(symbol: Symbol) -> str:
    """A symbol in Unicode."""
    return _quotient(symbol, text_name, "∂{}{}/{}", "∂{}", raised)


def latex_symbol(symbol: Symbol) -> str:
    """A symbol in LaTeX."""
    return _quotient(
        symbol, latex_name, r"\frac{{\partial{} {}}}{{{}}}", r"\partial {}", "^{{{}}}".format
    )


def _quotient(
    symbol: Symbol,
    written: Callable[[str, tuple[str, ...]], str],
    fraction: str,
    one: str,
    power: Callable[[int], str],
) -> str:
    of, *by = (written(*part) for part in parts(symbol))
    order = power(len(by)) if len(by) > 1 else ""
    return fraction.format(order, of, " ".join(one.format(name) for name in by)) if by else of


def parts(symbol: Symbol) -> tuple[Shown, ...]:
    """What a symbol is written with: one name, or those of a derivative."""
    return symbol.shown or tuple((name, ()) for name in (symbol.array.name, *symbol.array.by))
