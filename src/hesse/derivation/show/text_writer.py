"""Formulas in Unicode."""

from collections.abc import Sequence
from fractions import Fraction

from hesse.derivation.calculus.expression import Entry, Expression
from hesse.derivation.calculus.program import Program
from hesse.derivation.calculus.sizes import size_text
from hesse.derivation.show.layout import MARK_OFF, MARK_ON
from hesse.derivation.show.matrices import Forms
from hesse.derivation.show.matrix.nodes import Matrix
from hesse.derivation.show.names import text_function, text_name
from hesse.derivation.show.numerals import primes, raised, rational
from hesse.derivation.show.readings import known_reading
from hesse.derivation.show.writer import Writer
from hesse.errors import printable


class TextWriter(Writer):
    """Formulas in Unicode."""

    def name(self, name: str, indices: Sequence[str] = ()) -> str:
        return printable(text_name(name, indices))

    def index(self, name: str) -> str:
        return name

    def size(self, size: int | str) -> str:
        return size_text(size)

    def function(self, name: str, order: int) -> str:
        letter = text_function(name)
        # σ is not written for the sigmoid where something else has this name.
        taken = letter in self.program.leaves or letter in self.program.by_name
        return (name if taken else letter) + primes(order)

    def operator(self, name: str, index: str = "") -> str:
        return f"{name}_{index}" if index else name

    def plain(self, text: str) -> str:
        return text

    def array_function(self, operation: str, argument: str) -> str:
        return text_name(f"{operation}({self.symbol(argument)})")

    def black_box(self, operation: str, order: int, arguments: Sequence[str]) -> str:
        return f"{operation}{primes(order)}({', '.join(arguments)})"

    def commutation(self, sizes: Sequence[str] = ()) -> str:
        sign = self.sign("K", "Com")
        return f"{sign}[{','.join(sizes)}]" if sizes else sign

    def number(self, value: Fraction) -> str:
        return rational(value)

    def coefficient(self, value: Fraction) -> str:
        number = rational(value)
        return f"({number})" if "/" in number else number

    def parentheses(self, inside: str) -> str:
        return f"({inside})"

    def absolute(self, inside: str) -> str:
        return f"|{inside}|"

    def root(self, inside: str) -> str:
        return f"√({inside})"

    def raised(self, base: str, exponent: str) -> str:
        # There are raised digits, but few raised letters.
        if exponent.lstrip("−").isdigit():
            return base + raised(exponent)
        return f"{base}^{exponent}" if exponent.isalnum() else f"{base}^({exponent})"

    def exponent(self, exponent: Fraction | str, each: bool) -> str:
        sign, number = "^∘" if each else "^", str(exponent).replace("-", "−")
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            if not each:
                return raised(exponent)
            if exponent > 0:
                return sign + number
        return sign + number if number.isalpha() else f"{sign}({number})"

    def quotient(self, above: str, below: Sequence[str]) -> str:
        # a/b and a/(b c), but a / f(b).
        single = len(below) == 1 and _stands_alone(below[0])
        bottom = below[0] if single else f"({' '.join(below)})"
        tight = above.isalnum() and (bottom.isalnum() or not single)
        return f"{above}/{bottom}" if tight else f"{above} / {bottom}"

    def ratio(self, above: str, below: Sequence[str], alone: bool) -> str:
        bottom = f"({' '.join(below)})" if len(below) > 1 else below[0]
        return f"{above}/{bottom}" if alone else f"({above}/{bottom})"

    def partial(self, of: str | None, by: Sequence[str], whole: bool = False) -> str:
        power = raised(len(by)) if len(by) > 1 else ""
        below = (" " if whole else "").join(f"∂{variable}" for variable in by)
        return f"∂{power}{of or ''}/{below}"

    def summation(self, over: Sequence[str]) -> str:
        return f"Σ_{over[0]}" if len(over) == 1 else f"Σ_{{{','.join(over)}}}"

    def product(self, parts: Sequence[str], dotted: bool = False) -> str:
        return (" · " if dotted else " ").join(parts)

    def moving(self, part: str) -> str:
        return f"{MARK_ON}{part}{MARK_OFF}"


def _stands_alone(text: str) -> bool:
    """Whether no space is outside brackets: then it needs none of its own below a fraction line."""
    depth = 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == " " and not depth:
            return False
    return True


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

    Examples:
        >>> from hesse.derivation.calculus.expression import Delta, Index, of
        >>> o, q = Index("o", "h"), Index("q", "h")
        >>> text(of(Delta(o, q)), Program({}, ()))
        '[o = q]'
    """
    formula = known_reading(reading).formula(expression, rows, columns, Forms(program))
    # On one line nothing can stand under what is marked.
    return TextWriter(program).write(formula).replace(MARK_ON, "").replace(MARK_OFF, "")


def matrix_text(node: Matrix) -> str:
    """A matrix in Unicode: ``(X⁻ᵀ ⊗ X⁻¹) K``.

    Examples:
        >>> from hesse.derivation.show.matrix.nodes import Array, Product, Symbol, Transpose
        >>> X = Symbol(Array("X"), ("n",), ("d",))
        >>> matrix_text(Product((Transpose(X), X)))
        'XᵀX'
    """
    return TextWriter(Program({}, ())).write(node)
