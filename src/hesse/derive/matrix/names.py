"""The symbols of a matrix formula: W1, row n of X as x_n, ∂z3/∂z2 as a fraction."""

from collections.abc import Callable

from hesse.derive.matrix.nodes import Shown, Symbol
from hesse.derive.notation.names import latex_index, latex_name, symbol_of

_ORDERS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def text_symbol(symbol: Symbol) -> str:
    """A symbol in Unicode."""
    return _quotient(symbol, _text, "∂{}{}/{}", "∂{}", lambda order: str(order).translate(_ORDERS))


def latex_symbol(symbol: Symbol) -> str:
    """A symbol in LaTeX."""
    return _quotient(symbol, _latex, r"\frac{{\partial{} {}}}{{{}}}", r"\partial {}", "^{{{}}}".format)


def _quotient(
    symbol: Symbol, written: Callable[[str, tuple[str, ...]], str], fraction: str, one: str, raised: Callable[[int], str]
) -> str:
    of, *by = (written(*part) for part in parts(symbol))
    order = raised(len(by)) if len(by) > 1 else ""
    return fraction.format(order, of, " ".join(one.format(name) for name in by)) if by else of


def parts(symbol: Symbol) -> tuple[Shown, ...]:
    """What a symbol is written with: one name, or those of a derivative."""
    return symbol.shown or tuple((name, ()) for name in (symbol.array.name, *symbol.array.by))


def _text(name: str, places: tuple[str, ...]) -> str:
    found = symbol_of(name)
    if len(places) == 1 and found is not None:
        return f"{name}_{places[0]}"
    if places:
        return f"{name}[{','.join(places)}]"
    return f"{found.base}{found.number}⁻¹" if found is not None and found.inverse else name


def _latex(name: str, places: tuple[str, ...]) -> str:
    if ":" not in places:
        return latex_name(name, places)
    return f"{latex_name(name)}[{','.join(place if place == ':' else latex_index(place) for place in places)}]"
