"""The line of a rule that makes many terms of a sum: it is told term by term."""

from hesse.derivation.calculus.algebra import add
from hesse.derivation.calculus.differentiation import derivative, total_derivative
from hesse.derivation.calculus.expression import (
    ZERO,
    Entry,
    Expression,
    Group,
    Index,
    Partial,
    Term,
    grouped,
    of,
)
from hesse.derivation.calculus.rules import Rule
from hesse.derivation.lines.page import Page

MOST = 3  # terms that a reader takes in at once
TOLD = 3  # terms that are told one by one: of many, the others are like these


def write_rule(
    page: Page,
    rule: Rule,
    before: Expression,
    value: Expression,
    by: Entry,
    after: Expression,
    prefer: tuple[Index, ...],
    reason: str,
    marks: tuple[str, ...],
) -> None:
    """The line of a rule. Where it has many terms more than the sum that it is applied to, lines
    come first in which the rule is applied to the first few of them, and the rest is left.

    Args:
        page: what to write on.
        rule: the rule.
        before: the left side.
        value: the sum that is differentiated.
        by: by what.
        after: what it comes to.
        prefer: the indices that stay where there is a choice.
        reason: half a sentence.
        marks: for each term of ``after``, the label of its branch.
    """
    many = len(after.terms) - _terms(before) > MOST
    moving = [term for term in value.terms if page.program.depends(term, by.name)]
    done, of_entry = ZERO, total_derivative(page.program)
    for place in range(1, min(len(moving), TOLD + 1) if many else 1):
        done = add(done, derivative(moving[place - 1], by, of_entry).expression)
        rest = Expression(tuple(moving[place:]))
        left = of(Partial(grouped(rest), (by,)))
        step = add(page.simplified(done, prefer), left)
        page.write(
            rule.name,
            before,
            step,
            f"of {'the first term' if place == 1 else f'{place} terms'}; the rest is left",
        )
    page.write(rule.name, before, after, reason, marks=marks)


def _terms(before: Expression) -> int:
    """How many terms a reader has seen: those under a derivative, too."""
    match before:
        case Expression((Term(1, (Partial(Group(body)),), ()),)):
            return len(body.terms)
    return len(before.terms)
