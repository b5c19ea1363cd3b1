"""The formulas of a program on one line each, as matrices where they have such a form."""

from collections.abc import Sequence

from hesse.derivation.calculus.expression import Entry, Expression, Partial, of
from hesse.derivation.calculus.program import Program, Quantity
from hesse.derivation.show.matrices import Forms
from hesse.derivation.show.text_writer import TextWriter


class Formulas:
    """The formulas of one program, as text."""

    def __init__(self, program: Program) -> None:
        self._writer, self._forms = TextWriter(program), Forms(program)

    def symbol(self, name: str) -> str:
        """A leaf or a quantity without its indices."""
        return self._writer.write(Entry(name))

    def definition(self, quantity: Quantity) -> str:
        """``z3 = W2 a2``."""
        right, form = quantity.definition, self._forms.definition(quantity)
        if form is None and isinstance(right, Expression):
            return f"{self._writer.write(quantity.entry)} = {self._writer.write(right)}"
        left, written = (
            self.symbol(quantity.name),
            self._writer.write(right if form is None else form),
        )
        # log|det S| is called by what it is.
        return left if left == written else f"{left} = {written}"

    def derivative(self, value: Expression, of_what: Entry, by: tuple[Entry, ...]) -> str:
        """``∂z3/∂a2 = W2``, where ``value`` is the derivative by one entry or by two."""
        sides = sides_of(of_what, by)
        form = None if sides is None else self._forms.whole(value, *sides)
        if form is None:
            left = Partial(of_what, by)
            return f"{self._writer.write(of(left))} = {self._writer.write(value)}"
        left = Partial(Entry(of_what.name), tuple(Entry(one.name) for one in by))
        return f"{self._writer.write(of(left))} = {self._writer.write(form)}"


def sides_of(of_what: Entry, by: tuple[Entry, ...]) -> tuple[Entry, Entry] | None:
    """The rows and the columns of a derivative; None of what has three groups of axes."""
    if len(by) == 1:
        return of_what, by[0]
    # A number has a matrix of second derivatives.
    return None if of_what.indices else (by[0], by[1])


def listed(words: Sequence[str]) -> str:
    """Words as a sentence has them.

    Examples:
        >>> listed(["W1", "x", "b1"])
        'W1, x and b1'
    """
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
