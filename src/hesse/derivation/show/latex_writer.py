"""Formulas for LaTeX's math mode."""

from collections.abc import Sequence
from fractions import Fraction

from hesse.derivation.calculus.expression import Entry, Expression, Size
from hesse.derivation.calculus.program import Program
from hesse.derivation.show.matrices import Forms
from hesse.derivation.show.names import latex_function, latex_index, latex_name, typewriter
from hesse.derivation.show.numerals import decimal
from hesse.derivation.show.readings import known_reading, scalar
from hesse.derivation.show.writer import Writer
from hesse.operations.registry import ARRAY_FUNCTIONS

_SIGNS = str.maketrans(
    {
        "·": r" \cdot ",
        "−": "-",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "→": r"\to ",
        "∞": r"\infty ",
    }
)


class LatexWriter(Writer):
    """Formulas in LaTeX's math mode.

    Args:
        program: whose names are written.
        shaped: whether the shape of each array stands under it.
    """

    minus = "-"

    def __init__(self, program: Program, shaped: bool = False) -> None:
        super().__init__(program)
        self.shaped = shaped

    def word(self, text: str) -> str:
        """A name that is no symbol."""
        return typewriter(text)

    def named(self, name: str, written: str) -> str:
        """A symbol, with its shape under it where shapes are asked for."""
        sizes = self.sizes(name)
        if not self.shaped or not sizes:
            return written
        below = r" \times ".join(map(self.size, sizes))
        return rf"\underset{{{below}}}{{{written}}}"

    def sizes(self, name: str) -> tuple[Size, ...]:
        """The shape of a leaf or quantity."""
        known = name in self.program.leaves or name in self.program.by_name
        return self.program.shape(name) if known else ()

    def symbol(self, name: str) -> str:
        return self.named(name, latex_name(name, (), self.word))

    def entry(self, entry: Entry) -> str:
        at = [index.name for index in entry.indices]
        return self.slope(entry) or self.named(entry.name, latex_name(entry.name, at, self.word))

    def delta(self, left: str, right: str) -> str:
        return f"[{left} = {right}]"

    def index(self, name: str) -> str:
        return latex_index(name)

    def size(self, size: int | str) -> str:
        return str(size) if isinstance(size, int) else latex_name(size, (), self.word)

    def call(self, function: str, order: int, argument: str) -> str:
        if function == "abs" and not order:
            return rf"\left|{argument}\right|"
        return latex_function(function, order, self.word) + self.parentheses(argument)

    def raised(self, base: str, exponent: str) -> str:
        return f"{{{base}}}^{{{exponent}}}"

    def root(self, inside: str) -> str:
        return rf"\sqrt{{{inside}}}"

    def quotient(self, above: str, below: Sequence[str]) -> str:
        bottom = r" \, ".join(below)
        return rf"\frac{{{above}}}{{{bottom}}}"

    def number(self, value: Fraction) -> str:
        if value.denominator == 1:
            return str(value.numerator)
        return decimal(value) or rf"\tfrac{{{value.numerator}}}{{{value.denominator}}}"

    def summation(self, over: Sequence[str]) -> str:
        return rf"\sum_{{{','.join(over)}}}"

    def parentheses(self, inside: str) -> str:
        tall = any(command in inside for command in (r"\frac", r"\sum"))
        return rf"\left({inside}\right)" if tall else f"({inside})"

    def partial(self, of: str | None, by: Sequence[str]) -> str:
        power = f"^{{{len(by)}}}" if len(by) > 1 else ""
        below = r" \, ".join(rf"\partial {variable}" for variable in by)
        return rf"\frac{{\partial{power} {of or ''}}}{{{below}}}"

    def product(self, parts: Sequence[str], dotted: bool) -> str:
        return (r" \cdot " if dotted else r" \, ").join(parts)

    def moving(self, part: str) -> str:
        return rf"\underline{{{part}}}"

    def plain(self, text: str) -> str:
        return text.translate(_SIGNS)

    def whole(self, operation: str, argument: str) -> str:
        name = latex_name(argument, (), self.word)
        written = ARRAY_FUNCTIONS[operation].latex
        return (
            written.format(name)
            if written
            else f"{latex_function(operation, 0, self.word)}({name})"
        )

    def black_box(self, operation: str, order: int, arguments: Sequence[str]) -> str:
        return f"{latex_function(operation, order, self.word)}({', '.join(arguments)})"


def latex(
    expression: Expression,
    program: Program,
    reading: str = "indices",
    rows: Entry | None = None,
    columns: Entry | None = None,
) -> str:
    r"""One formula, for LaTeX's math mode.

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
        >>> latex(of(Delta(Index("o", "h"), Index("q", "h"))), Program({}, ()))
        '[o = q]'
    """
    kind = known_reading(reading)
    if kind == "matrix":
        shown = Forms(program).whole(expression, rows, columns)
        if shown is not None:
            return shown.latex
    return LatexWriter(program).expression(
        scalar(expression, program) if kind == "scalar" else expression
    )
