"""The readings of a derivation: what each does to an expression, a name, a line, a definition.

A reading is one object. A new one is a class with what it does otherwise, put into `READINGS`.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from hesse.derivation.calculus.expression import (
    Count,
    Delta,
    Entry,
    Expression,
    Group,
    Partial,
    Power,
    Term,
    rebuilt,
)
from hesse.derivation.calculus.normal_form import collect
from hesse.derivation.calculus.program import ArrayCall, Definition, Program, Quantity
from hesse.derivation.show import document
from hesse.derivation.show.document import Equation, Sizes, Sum, summands, without_indices
from hesse.derivation.show.matrices import Forms
from hesse.derivation.show.matrix.nodes import Matrix
from hesse.errors import HesseTypeError, HesseValueError, nearest


@dataclass(frozen=True)
class ReadLine:
    """The two sides of a line as a reading has them.

    Attributes:
        before, after, name, marks: as in the line.
        rows, columns: what the rows and columns of the two sides are, where they are matrices.
        continued: whether ``before`` is the ``after`` of the line above and need not be written
            again.
    """

    before: Expression
    after: Expression
    name: Entry | None
    marks: tuple[str, ...]
    rows: Entry | None
    columns: Entry | None
    continued: bool


class Reading:
    """In indices: everything as it was derived, with matrices beside it.

    Attributes:
        name: what it is asked for by.
        title: what it is called on a page.
        about: half-sentences for the header.
        axes: whether arrays have axes to speak of.
        terse: whether lines that say nothing are left out.
        in_place: whether a matrix stands in the place of its entries.
        meaning: what the blocks of two parameters are, of ``{blocks}`` and of ``{below}``, the
            derivative below the diagonal.
    """

    name = "indices"
    title = "in indices"
    about: tuple[str, ...] = ()
    axes, terse, in_place = True, False, False
    meaning: tuple[str, ...] = (
        "Here {blocks} are blocks, not numbers: one entry for each pair of entries of the two"
        " parameters.",
        "Block b stands twice, the second time transposed: {below} = bᵀ.",
    )

    def expression(self, expression: Expression, program: Program) -> Expression:
        """An expression, such as a side of a line."""
        return expression

    def entry(self, entry: Entry) -> Entry:
        """A name with its indices."""
        return entry

    def titled(self, entry: Entry) -> Entry:
        """The same in a title."""
        return self.entry(entry)

    def reason(self, reason: str, program: Program) -> str:
        """The reason of a line."""
        return reason

    def shape(self, sizes: Sizes) -> Sizes | None:
        """The shape of an array; None where it is not shown."""
        return sizes if self.axes else None

    def matrix(
        self, expression: Expression, rows: Entry, columns: Entry | None, forms: Forms
    ) -> Sum:
        """A result as matrices."""
        return forms.by_kind(expression, rows, columns)

    def formula(
        self, expression: Expression, rows: Entry | None, columns: Entry | None, forms: Forms
    ) -> Expression | Matrix:
        """A formula by itself."""
        return self.expression(expression, forms.program)

    def equation(self, view: ReadLine, forms: Forms) -> Equation:
        """A line."""
        left = None if view.continued else view.before
        right = summands(view.after, view.marks)
        return Equation(left, right, view.name, view.before == view.after)

    def definition(self, quantity: Quantity, forms: Forms) -> document.Definition:
        """A quantity."""
        right = quantity.definition
        whole = not isinstance(right, Expression)
        left = Entry(quantity.name) if whole else quantity.entry
        return document.Definition(
            self.entry(left), self._right(right, forms.program), self._beside(quantity, forms)
        )

    def _right(self, definition: Definition, program: Program) -> Definition:
        match definition:
            case Expression():
                return self.expression(definition, program)
            case ArrayCall(operation, argument):
                return ArrayCall(operation, self.entry(argument))
        return definition

    def _beside(self, quantity: Quantity, forms: Forms) -> Matrix | None:
        # A number in entries is one already.
        return forms.definition(quantity) if quantity.indices else None


class Scalar(Reading):
    """One weight per layer: every axis has length one, so that indices and sums are gone."""

    name = "scalar"
    title = "one weight per layer"
    about = (f"{title}: every axis has length one", "so indices and sums are gone")
    axes, terse = False, True
    meaning = ("Here {blocks}; b stands twice.",)

    def expression(self, expression: Expression, program: Program) -> Expression:
        return scalar(expression, program)

    def entry(self, entry: Entry) -> Entry:
        return Entry(entry.name)

    def reason(self, reason: str, program: Program) -> str:
        # Longer names first: W10 is not W1 with something behind it.
        names = sorted({*program.leaves, *program.by_name}, key=len, reverse=True)
        known = "|".join(map(re.escape, names))
        indexed = rf"(?<!\w)({known})(?:_\w\d*(?!\w)|\[[\w,]+\])"
        return re.sub(indexed, r"\1", reason) if known else reason

    def matrix(
        self, expression: Expression, rows: Entry, columns: Entry | None, forms: Forms
    ) -> Sum:
        return ()

    def _beside(self, quantity: Quantity, forms: Forms) -> Matrix | None:
        return None


class Matrices(Reading):
    """As matrices, where there is such a form; else in indices."""

    name = "matrix"
    title = "as matrices"
    in_place = True

    def titled(self, entry: Entry) -> Entry:
        return Entry(entry.name)

    def formula(
        self, expression: Expression, rows: Entry | None, columns: Entry | None, forms: Forms
    ) -> Expression | Matrix:
        # A formula without matrix form stays as it was derived.
        form = forms.whole(expression, rows, columns)
        return expression if form is None else form

    def equation(self, view: ReadLine, forms: Forms) -> Equation:
        right: Sum = ()
        if view.rows or view.columns:
            right = forms.by_kind(view.after, view.rows, view.columns, view.marks)
        # Both sides as matrices, or both in indices.
        left = None
        if right and not view.continued:
            left = _bare_derivative(view.before) or forms.whole(
                view.before, view.rows, view.columns
            )
        if not right or (left is None and not view.continued):
            return super().equation(view, forms)
        return Equation(left, right, Entry(view.name.name) if view.name else None)

    def _beside(self, quantity: Quantity, forms: Forms) -> Matrix | None:
        return forms.definition(quantity)


READINGS: dict[str, Reading] = {
    reading.name: reading for reading in (Scalar(), Reading(), Matrices())
}


def known_reading(name: str) -> Reading:
    """The reading of that name.

    Raises:
        HesseTypeError: it is no name.
        HesseValueError: there is none; the text names those that there are.
    """
    if not isinstance(name, str):
        raise HesseTypeError(f"reading must be the name of one, such as 'matrix'; got {name!r}")
    if name not in READINGS:
        raise HesseValueError(
            f"reading must be one of {', '.join(map(repr, READINGS))}, got {name!r}; "
            f"nearest: {nearest(name, list(READINGS))}"
        )
    return READINGS[name]


def _bare_derivative(expression: Expression) -> Expression | None:
    """∂z/∂W for ∂z_p/∂W[o,i]; None for all else."""
    if len(expression.terms) == 1 and len(expression.terms[0].factors) == 1:
        factor = expression.terms[0].factors[0]
        if isinstance(factor, Partial) and isinstance(factor.of, Entry):
            return without_indices(factor)
    return None


# ---------------------------------------------------------------- one weight per layer

_NUMBER_ONE = Group(Expression((Term(Fraction(1)),)))


def scalar(expression: Expression, program: Program) -> Expression:
    """The expression where every axis has length one: indices, sums and deltas are gone, like terms
    are one.

    Examples:
        >>> from hesse.derivation.calculus.expression import Index
        >>> i, j = Index("i", "n"), Index("j", "n")
        >>> twice = Expression((Term(Fraction(1), (Entry("A", (i, j)),)), Term(Fraction(1),
        ...     (Entry("A", (j, i)),))))
        >>> scalar(twice, Program({}, ())).terms
        (Term(coefficient=Fraction(2, 1), factors=(Entry(name='A', indices=()),), bound=(),
        kind=None),)
    """
    return collect(_bare(expression, program))


def _bare(value: Any, program: Program) -> Any:
    """A factor, a term or an expression without indices; what is one by that leaves a product."""
    match value:
        case Term(factors=factors):
            kept = [_bare(factor, program) for factor in factors]
            kept = tuple(factor for factor in kept if factor is not _NUMBER_ONE)
            return replace(value, factors=kept, bound=())
        case Entry(name, _):
            leaf = program.leaves.get(name)
            # A condition on indices always holds where there are none.
            return _NUMBER_ONE if leaf is not None and leaf.shown is not None else Entry(name)
        case Delta() | Count():
            return _NUMBER_ONE
    # Inside functions, powers and parentheses as well; 1 to any power is 1.
    bare = rebuilt(value, lambda part: _bare(part, program))
    return _NUMBER_ONE if isinstance(bare, Power) and bare.base is _NUMBER_ONE else bare
