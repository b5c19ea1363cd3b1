"""The matrix forms of a program's formulas, where they have one."""

from dataclasses import replace

from hesse.derivation.calculus.expression import Entry, Expression, Index, Kind, Term
from hesse.derivation.calculus.program import Program, Quantity
from hesse.derivation.show.document import Sum, Summand
from hesse.derivation.show.matrix import Matrix, matrix_form
from hesse.derivation.show.matrix.nodes import Scaled

Side = tuple[Index, ...]


class Forms:
    """The matrix forms of one program's formulas, each looked for once."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._known: dict[tuple[Expression, Side, Side], Matrix | None] = program.forms

    def whole(
        self, expression: Expression, rows: Entry | None, columns: Entry | None
    ) -> Matrix | None:
        """A formula as products of matrices; None where it has no such form."""
        # Only the indices of the two sides matter, not whose they are.
        key = expression, rows.indices if rows else (), columns.indices if columns else ()
        if key not in self._known:
            self._known[key] = matrix_form(*key, self.program)
        return self._known[key]

    def by_kind(
        self,
        expression: Expression,
        rows: Entry | None,
        columns: Entry | None,
        marks: tuple[str, ...] = (),
    ) -> Sum:
        """A formula as matrices, one for each kind of term that stands in it; none where it has no
        such form."""
        groups: dict[Kind | None, list[Term]] = {} if expression.terms else {None: []}
        for term in expression.terms:
            groups.setdefault(term.kind, []).append(term)
        # Marks are of terms: they say something of matrices only where each matrix is one term.
        marks = marks if len(marks) == len(groups) > 1 else ("",) * len(groups)
        parts = []
        for (kind, terms), mark in zip(groups.items(), marks, strict=True):
            node = self.whole(Expression(tuple(terms)), rows, columns)
            # All parts as matrices or none: in a sum the two do not mix.
            if node is None:
                return ()
            # A single product has its sign apart. A sum keeps its signs: it is not negated as a
            # whole.
            negative = isinstance(node, Scaled) and node.number < 0
            if isinstance(node, Scaled) and negative:
                node = replace(node, number=-node.number)
            parts.append(Summand(node, negative, kind, mark, len(groups) > 1))
        return tuple(parts)

    def definition(self, quantity: Quantity) -> Matrix | None:
        """The right-hand side of a quantity with at most two indices."""
        if not isinstance(quantity.definition, Expression) or len(quantity.indices) > 2:
            return None
        # A vector is one column, a matrix has its second index along the columns.
        first, second = (Entry(quantity.name, quantity.indices[k : k + 1]) for k in (0, 1))
        return self.whole(quantity.definition, first, second)
