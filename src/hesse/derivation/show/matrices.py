"""The matrix reading of a formula, where it has one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hesse.derivation.calculus.expression import Entry, Expression, Index, Kind, Partial, Term, of
from hesse.derivation.calculus.program import Program, Quantity
from hesse.derivation.show.matrix import matrix_form, matrix_latex, matrix_text, remarks
from hesse.derivation.show.outline import View


@dataclass(frozen=True)
class Shown:
    """One formula in matrix form, in both notations, and what signs in it mean."""

    text: str
    latex: str
    remarks: tuple[str, ...] = ()
    negative: bool = False
    kind: Kind | None = None


class Forms:
    """The matrix forms of one program's formulas, each found once."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._known: dict[
            tuple[Expression, tuple[Index, ...], tuple[Index, ...]], Shown | None
        ] = {}

    def whole(
        self, expression: Expression, rows: Entry | None, columns: Entry | None
    ) -> Shown | None:
        """A formula as products of matrices; None where it has no such form."""
        at = (rows.indices if rows else (), columns.indices if columns else ())
        key = (expression, *at)
        if key not in self._known:
            node = matrix_form(expression, *at, self.program)
            self._known[key] = (
                None
                if node is None
                else Shown(matrix_text(node), matrix_latex(node), remarks(node))
            )
        return self._known[key]

    def by_kind(
        self, expression: Expression, rows: Entry | None, columns: Entry | None
    ) -> list[Shown]:
        """A formula as matrices, one for each kind of term that stands in it; none where it has no
        such form."""
        groups: dict[Kind | None, list[Term]] = {term.kind: [] for term in expression.terms} or {
            None: []
        }
        for term in expression.terms:
            groups[term.kind].append(term)
        shown = []
        for kind, terms in groups.items():
            part = self.whole(Expression(tuple(terms)), rows, columns)
            if part is None:
                return []
            shown.append(replace(_unsigned(part), kind=kind))
        return shown

    def definition(self, quantity: Quantity) -> Shown | None:
        """The right-hand side of a quantity with at most two indices."""
        if not isinstance(quantity.definition, Expression) or len(quantity.indices) > 2:
            return None
        first, second = (Entry(quantity.name, quantity.indices[k : k + 1]) for k in (0, 1))
        return self.whole(quantity.definition, first, second)

    def sides(self, view: View) -> tuple[Expression | Shown | None, list[Shown]] | None:
        """Both sides of a line as matrices, the left one without indices; None where one of them
        has no matrix form.

        The left side is None where the line goes on from the one above.
        """
        after = (
            self.by_kind(view.after, view.rows, view.columns) if view.rows or view.columns else []
        )
        if not after:
            return None
        if view.continued:
            return None, after
        left = _without_indices(view.before) or self.whole(view.before, view.rows, view.columns)
        return None if left is None else (left, after)


def labels_of(shown: Sequence[Shown], marks: Sequence[str] = ()) -> list[str]:
    """What stands under each part: the mark of its branch, and its kind where both kinds are
    there."""
    if len(shown) < 2:
        return [""] * len(shown)
    named = marks if len(marks) == len(shown) else [""] * len(shown)
    return [
        ", ".join(filter(None, (mark, part.kind))) for mark, part in zip(named, shown, strict=True)
    ]


def remarks_of(shown: Sequence[Shown]) -> tuple[str, ...]:
    """What signs in several formulas mean, each once."""
    return tuple(dict.fromkeys(remark for part in shown for remark in part.remarks))


def _unsigned(part: Shown) -> Shown:
    """A single product with its sign apart. A sum keeps its signs: it is not negated as a whole."""
    single = part.text.startswith("−") and not re.search(r" [+−] ", _outside(part.text))
    return (
        replace(part, text=part.text[1:], latex=part.latex.removeprefix("-"), negative=True)
        if single
        else part
    )


def _outside(text: str) -> str:
    """What stands outside all brackets."""
    kept, depth = "", 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        kept += character if not depth else ""
    return kept


def _without_indices(before: Expression) -> Expression | None:
    """∂z/∂W for ∂z_p/∂W[o,i]."""
    if len(before.terms) == 1 and len(before.terms[0].factors) == 1:
        match before.terms[0].factors[0]:
            case Partial(Entry(name, _), by):
                return of(Partial(Entry(name), tuple(Entry(entry.name) for entry in by)))
    return None
