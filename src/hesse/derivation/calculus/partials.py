"""What stands for something else in an expression, and what it comes to: derivatives that are not
carried out, and the names of quantities."""

from hesse.derivation.calculus.algebra import renamed_to, replaced
from hesse.derivation.calculus.expression import Entry, Expression, Factor, Group, Partial, of


def put_in(expression: Expression, closed: dict[Partial, Expression]) -> Expression:
    """The expression with each derivative replaced by what it came to."""

    def inside(factor: Factor) -> Expression:
        if isinstance(factor, Partial):
            return closed[factor]
        # A derivative may stand in the parentheses of a definition, but in no function and no
        # power: those are differentiated to a slope and the derivative of what is in them.
        return of(Group(put_in(factor.body, closed)) if isinstance(factor, Group) else factor)

    return replaced(expression, inside)


def written_out(expression: Expression, entry: Entry, definition: Expression) -> Expression:
    """The expression with the definition of a quantity in the place of each of its entries."""

    def opened(factor: Factor) -> Expression:
        if not isinstance(factor, Entry) or factor.name != entry.name:
            return of(factor)
        return renamed_to(definition, entry.indices, factor.indices)

    return replaced(expression, opened)


def partials_in(expression: Expression) -> list[Partial]:
    """The derivatives not carried out, each once, in order."""
    factors = (factor for term in expression.terms for factor in term.factors)
    return list(dict.fromkeys(factor for factor in factors if isinstance(factor, Partial)))
