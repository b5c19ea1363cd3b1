"""Formulas in Unicode."""

from collections.abc import Sequence
from fractions import Fraction

from hesse.derivation.calculus.expression import Entry, Expression
from hesse.derivation.calculus.program import Program
from hesse.derivation.show.layout import MARK_OFF, MARK_ON
from hesse.derivation.show.matrices import Forms
from hesse.derivation.show.names import text_function, text_name
from hesse.derivation.show.numerals import primes, raised, rational
from hesse.derivation.show.readings import known_reading, scalar
from hesse.derivation.show.writer import Writer


class TextWriter(Writer):
    """Formulas in Unicode."""

    def symbol(self, name: str) -> str:
        return self.slope(Entry(name)) or text_name(name)

    def entry(self, entry: Entry) -> str:
        return self.slope(entry) or text_name(entry.name, [index.name for index in entry.indices])

    def delta(self, left: str, right: str) -> str:
        return f"[{left} = {right}]"

    def index(self, name: str) -> str:
        return name

    def size(self, size: int | str) -> str:
        return str(size)

    def call(self, function: str, order: int, argument: str) -> str:
        if function == "abs" and not order:
            return f"|{argument}|"
        letter = text_function(function)
        name = (
            function if letter in self.program.leaves or letter in self.program.by_name else letter
        )
        return f"{name}{primes(order)}({argument})"

    def raised(self, base: str, exponent: str) -> str:
        if exponent.lstrip("−").isdigit():
            return base + raised(exponent)
        return f"{base}^{exponent}" if exponent.isalnum() else f"{base}^({exponent})"

    def root(self, inside: str) -> str:
        return f"√({inside})"

    def quotient(self, above: str, below: Sequence[str]) -> str:
        single = len(below) == 1 and _stands_alone(below[0])
        bottom = below[0] if single else f"({' '.join(below)})"
        return (
            f"{above}/{bottom}"
            if above.isalnum() and (bottom.isalnum() or not single)
            else f"{above} / {bottom}"
        )

    def number(self, value: Fraction) -> str:
        return rational(value)

    def summation(self, over: Sequence[str]) -> str:
        return f"Σ_{over[0]}" if len(over) == 1 else f"Σ_{{{','.join(over)}}}"

    def parentheses(self, inside: str) -> str:
        return f"({inside})"

    def partial(self, of: str | None, by: Sequence[str]) -> str:
        power = raised(len(by)) if len(by) > 1 else ""
        return f"∂{power}{of or ''}/{''.join(f'∂{variable}' for variable in by)}"

    def product(self, parts: Sequence[str], dotted: bool) -> str:
        return (" · " if dotted else " ").join(parts)

    def moving(self, part: str) -> str:
        return f"{MARK_ON}{part}{MARK_OFF}"

    def plain(self, text: str) -> str:
        return text

    def whole(self, operation: str, argument: str) -> str:
        return self.symbol(f"{operation}({self.symbol(argument)})")

    def black_box(self, operation: str, order: int, arguments: Sequence[str]) -> str:
        return f"{operation}{primes(order)}({', '.join(arguments)})"


def _stands_alone(text: str) -> bool:
    """Whether no space is outside brackets: then it needs none of its own below a fraction line."""
    depth = 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == " " and not depth:
            return False
    return True


def _unmarked(text: str) -> str:
    return text.replace(MARK_ON, "").replace(MARK_OFF, "")


def text(
    expression: Expression,
    program: Program,
    reading: str = "indices",
    rows: Entry | None = None,
    columns: Entry | None = None,
) -> str:
    """One formula on one line.

    Args:
        expression: what to write.
        program: whose names it uses.
        reading: ``scalar`` (one weight per layer), ``indices`` or ``matrix``.
        rows, columns: what stands for rows and columns in the matrix reading. A formula without
            matrix form stays in indices.

    Raises:
        HesseValueError: there is no such reading.

    Example:
        >>> from hesse.derivation.calculus.expression import Delta, Index, of
        >>> o, q = Index("o", "h"), Index("q", "h")
        >>> text(of(Delta(o, q)), Program({}, ()))
        '[o = q]'
    """
    kind = known_reading(reading)
    if kind == "matrix":
        shown = Forms(program).whole(expression, rows, columns)
        if shown is not None:
            return shown.text
    return _unmarked(
        TextWriter(program).expression(
            scalar(expression, program) if kind == "scalar" else expression
        )
    )
