"""Formulas for LaTeX's math mode."""

import re
from collections.abc import Sequence
from fractions import Fraction

from hesse.derivation.calculus.expression import Entry, Expression, Size
from hesse.derivation.calculus.program import Program
from hesse.derivation.calculus.sizes import is_derived, size_text
from hesse.derivation.show.matrices import Forms
from hesse.derivation.show.matrix.nodes import Matrix
from hesse.derivation.show.names import latex_function, latex_index, latex_name, typewriter
from hesse.derivation.show.numerals import decimal
from hesse.derivation.show.readings import known_reading
from hesse.derivation.show.writer import Writer
from hesse.operations.registry import ARRAY_FUNCTIONS

# What conditions on indices are written with.
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
_NAME = re.compile(
    r"(?<![^\W\d])(?P<name>[^\W\d_](?:\w*?[^\W_])??′?)(?:_(?P<index>[A-Za-z]\d*))?(?!\w)"
)


class LatexWriter(Writer):
    """Formulas in LaTeX's math mode.

    Args:
        program: whose names are written.
        shaped: whether the shape of each array stands under it.
    """

    minus = "-"
    transposed, inverse, inverse_transposed = r"^{\top}", "^{-1}", r"^{-\top}"
    kron, hadamard, ones = r" \otimes ", r" \circ ", r"\mathbf{1}"
    barred = True

    def __init__(self, program: Program, shaped: bool = False) -> None:
        super().__init__(program)
        self.shaped = shaped

    def word(self, text: str) -> str:
        """A name that is no symbol."""
        return typewriter(text)

    def sizes(self, name: str) -> tuple[Size, ...]:
        """The shape of a leaf or quantity."""
        known = name in self.program.leaves or name in self.program.by_name
        return self.program.shape(name) if known else ()

    def named(self, name: str, symbol: str) -> str:
        """A symbol, with its shape under it where shapes are asked for."""
        sizes = self.sizes(name)
        if not self.shaped or not sizes:
            return symbol
        below = r" \times ".join(map(self.size, sizes))
        return rf"\underset{{{below}}}{{{symbol}}}"

    def symbol(self, name: str) -> str:
        return self.named(name, self.name(name))

    def entry(self, entry: Entry) -> str:
        # The shape under a derivative is that of each array in it.
        return self.slope(entry) or self.named(
            entry.name, self.name(entry.name, [index.name for index in entry.indices])
        )

    def name(self, name: str, indices: Sequence[str] = ()) -> str:
        return latex_name(name, indices, self.word)

    def index(self, name: str) -> str:
        return latex_index(name)

    def size(self, size: int | str) -> str:
        if isinstance(size, int):
            return str(size)
        return self.plain(size_text(size)) if is_derived(size) else self.name(size)

    def function(self, name: str, order: int) -> str:
        return latex_function(name, order, self.word)

    def operator(self, name: str, index: str = "") -> str:
        return rf"\operatorname{{{name}}}" + (f"_{{{index}}}" if index else "")

    def plain(self, text: str) -> str:
        # Names in it look as they do elsewhere, with an index behind a low line.
        return _NAME.sub(
            lambda found: self.name(found["name"], [found["index"]] if found["index"] else []), text
        ).translate(_SIGNS)

    def array_function(self, operation: str, argument: str) -> str:
        # Some have a sign that goes around their argument.
        name, form = self.name(argument), ARRAY_FUNCTIONS[operation].latex
        return form.format(name) if form else f"{self.function(operation, 0)}({name})"

    def black_box(self, operation: str, order: int, arguments: Sequence[str]) -> str:
        return f"{self.function(operation, order)}({', '.join(arguments)})"

    def commutation(self, sizes: Sequence[str] = ()) -> str:
        sign = self.sign("K", "Com")
        return f"{sign}_{{{','.join(sizes).replace('·', ' ')}}}" if sizes else sign

    def number(self, value: Fraction) -> str:
        short = decimal(value)
        if short is None:
            return self.coefficient(value)
        # 1e-05 would be a difference.
        digits, _, power = short.partition("e")
        if not power:
            return digits
        raised = f"10^{{{int(power)}}}"
        return raised if digits == "1" else rf"{digits} \cdot {raised}"

    def coefficient(self, value: Fraction) -> str:
        if value.denominator == 1:
            return str(value)
        return rf"\tfrac{{{value.numerator}}}{{{value.denominator}}}"

    def parentheses(self, inside: str) -> str:
        return _tall(inside, r"\\(frac|sum)")

    def grouped(self, inside: str) -> str:
        return _tall(inside, r"\\(t?frac|sum|left)")

    def absolute(self, inside: str) -> str:
        return rf"\left|{inside}\right|"

    def root(self, inside: str) -> str:
        return rf"\sqrt{{{inside}}}"

    def raised(self, base: str, exponent: str) -> str:
        return f"{{{base}}}^{{{exponent}}}"

    def exponent(self, exponent: Fraction | str, each: bool) -> str:
        if not each:
            return f"^{{{exponent}}}"
        plain = isinstance(exponent, Fraction) and exponent > 0
        return rf"^{{\circ {exponent}}}" if plain else rf"^{{\circ({exponent})}}"

    def superscript(self, base: str, above: str) -> str:
        # LaTeX refuses a second superscript.
        return f"{{{base}}}{above}" if re.search(r"['^]|prime", base) else base + above

    def quotient(self, above: str, below: Sequence[str]) -> str:
        return rf"\frac{{{above}}}{{{self.product(below)}}}"

    def ratio(self, above: str, below: Sequence[str], alone: bool) -> str:
        return self.quotient(above, below)

    def partial(self, of: str | None, by: Sequence[str], whole: bool = False) -> str:
        power = f"^{{{len(by)}}}" if len(by) > 1 else ""
        below = [rf"\partial {variable}" for variable in by]
        bottom = " ".join(below) if whole else self.product(below)
        return self.quotient(rf"\partial{power} {of or ''}", [bottom])

    def summation(self, over: Sequence[str]) -> str:
        return rf"\sum_{{{','.join(over)}}}"

    def product(self, parts: Sequence[str], dotted: bool = False) -> str:
        return (r" \cdot " if dotted else r" \, ").join(parts)

    def moving(self, part: str) -> str:
        return rf"\underline{{{part}}}"


def _tall(inside: str, high: str) -> str:
    """Parentheses as tall as what they hold, where something high stands in them."""
    return rf"\left({inside}\right)" if re.search(high, inside) else f"({inside})"


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

    Examples:
        >>> from hesse.derivation.calculus.expression import Delta, Index, of
        >>> latex(of(Delta(Index("o", "h"), Index("q", "h"))), Program({}, ()))
        '[o = q]'
    """
    formula = known_reading(reading).formula(expression, rows, columns, Forms(program))
    return LatexWriter(program).write(formula)


def matrix_latex(node: Matrix) -> str:
    r"""A matrix in LaTeX, for amsmath: ``\left(X^{-\top} \otimes X^{-1}\right) K``."""
    return LatexWriter(Program({}, ())).write(node)
