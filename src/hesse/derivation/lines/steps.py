"""The lines of first derivatives and of blocks: from what everybody has to the collected second
derivative."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count, product, repeat
from string import ascii_uppercase
from typing import Protocol, runtime_checkable

from hesse.derivation.calculus import rules
from hesse.derivation.calculus.algebra import (
    add,
    marked,
    partials_in,
    put_in,
    renamed_to,
    written_out,
)
from hesse.derivation.calculus.differentiation import derivative, total_derivative
from hesse.derivation.calculus.expression import (
    ZERO,
    Apply,
    Entry,
    Expression,
    Index,
    Kind,
    Partial,
    Power,
    Term,
    grouped,
    indices,
    kept,
    of,
)
from hesse.derivation.calculus.facts import facts
from hesse.derivation.calculus.normal_form import same
from hesse.derivation.calculus.program import Definition, mentioned, names_in
from hesse.derivation.calculus.rules import Derivative, Rule
from hesse.derivation.lines.in_full import InFull
from hesse.derivation.lines.long_sums import write_rule
from hesse.derivation.lines.page import HEAVIEST, Page, listed
from hesse.derivation.lines.records import Block, Slope
from hesse.derivation.lines.substitution import substituted


@runtime_checkable
class Expander(Protocol):
    """How the derivative of a named quantity is come by: carried out in full, or stage by stage."""

    def begin(self) -> None:
        """A new block."""
        ...

    def expand(self, partial: Partial) -> Expression:
        """What the derivative comes to; writes its lines the first time."""
        ...

    def with_curvature_written_out(
        self, result: Expression, rows: tuple[Index, ...], columns: tuple[Index, ...]
    ) -> tuple[str, Expression] | None:
        """A result with one name in it written out, and that name; or None."""
        ...


def slope(page: Page, name: str, signals: bool = True) -> Slope:
    """∂J/∂parameter: the δ it stands on, from the top, and the product with what the parameter
    multiplies.

    Args:
        page: what to write on.
        name: the parameter.
        signals: whether to write the δ out here; False where the stages do.
    """
    page.begin()
    entry, expression = page.adjoints.entries[name], page.adjoints.slope(name)
    # The derivative of a long sum is longer.
    page.require_short(expression, HEAVIEST // 2)
    cost = page.program.cost.entry
    needed = set(names_in(expression)).union(
        *(page.program.ancestors(used) for used in names_in(expression))
    )
    for quantity in page.program.quantities:
        # In the order of the program, which is from the top down.
        if signals and quantity.role == "delta" and quantity.name in needed:
            assert isinstance(quantity.definition, Expression)
            of_signal = Entry(page.adjoints.quantity_of[quantity.name], quantity.indices)
            why = f"{of_signal.name} acts on {cost.name} {page.through(of_signal.name)}"
            page.write(
                "chain rule",
                of(Partial(cost, (of_signal,))),
                quantity.definition,
                why,
                quantity.entry,
            )
            substitute(page, quantity.definition, quantity.indices)
    if expression.is_zero:
        page.write(
            "no dependence",
            of(Partial(cost, (entry,))),
            ZERO,
            f"{name} does not occur in {cost.name}",
        )
        return Slope(entry, ZERO, page.done())
    whole = of(Partial(cost, (entry,)))
    if needed & set(page.adjoints.quantity_of):
        why = f"{name} acts on {cost.name} {page.through(name)}"
        page.write("chain rule", whole, expression, why)
    else:
        _without_signals(page, name, whole, expression)
    final = substitute(page, expression, entry.indices)
    return Slope(entry, final, page.done())


def _without_signals(page: Page, name: str, whole: Expression, expression: Expression) -> None:
    """∂J/∂parameter where no δ stands between: by the rules, one after the other."""
    forward, cost = InFull(page), page.program.cost
    for (_, by), slope in page.adjoints.quotients.items():
        if by == name:
            forward.introduce(slope)
    same_as = _only_entry(cost.definition)
    if same_as is not None and same_as.name in page.program.by_name:
        if not any(same_as.name == quotient for quotient, _ in page.adjoints.quotients):
            forward.carried_out(same_as, page.adjoints.entries[name])
        page.write("linear", whole, expression, f"{cost.name} is {same_as.name}")
        return
    derived = forward.carried_out(cost.entry, page.adjoints.entries[name])
    if derived == expression:
        return
    if same(derived, expression, facts(page.program)):
        # The factors in the order in which they are differentiated again.
        free = indices(whole)
        page.lines[-1] = replace(page.lines[-1], after=page.letters.nice(expression, free))
    else:
        page.write("collect", whole, expression, "what the last lines came to")


def _only_entry(definition: Definition) -> Entry | None:
    """The entry that a definition is, whole."""
    match definition:
        case Expression((Term(1, (Entry() as entry,), ()),)):
            return entry
    return None


def block(page: Page, expander: Expander, rows: str, columns: str) -> Block:
    """∂²J/∂rows ∂columns, begun from the first derivative in ``columns``."""
    page.begin()
    expander.begin()
    A = page.adjoints.entries[rows]
    B = page.letters.beside(page.adjoints.entries[columns], {index.name for index in A.indices})
    cost = page.program.cost.entry
    known = renamed_to(
        page.adjoints.slope(columns), page.adjoints.entries[columns].indices, B.indices
    )
    known = page.letters.nice(known, (*A.indices, *B.indices))
    whole, start = of(Partial(cost, (A, B))), of(Partial(grouped(known), (A,)))
    if known.is_zero:
        return _zero(page, A, B, whole, f"{columns} does not occur in {cost.name}")
    page.write("start", whole, start, _where(page, known, rows, columns))
    if not page.program.depends(known, rows):
        return _zero(page, A, B, start, f"{rows} stands nowhere in ∂{cost.name}/∂{columns}")
    branches = _branches(page, A, B)
    partials = partials_in(branches)
    # Branches have letters only where there are several.
    names = _branch_letters() if len(partials) > 1 else repeat("")
    letters = dict(zip(partials, names, strict=False))
    marks = tuple(_mark(term, letters) for term in branches.terms) if len(partials) > 1 else ()
    rule = _rule(derivative(known, A, total_derivative(page.program)), bool(partials))
    part = "factor" if rule == rules.PRODUCT else "term"
    why = f"one branch for each {part} that contains {rows}" if len(partials) > 1 else ""
    # Of a first derivative that is one name, as p of logsumexp(z), nothing comes apart.
    if branches != start:
        order = (*A.indices, *B.indices)
        write_rule(page, rule, start, known, A, branches, order, why, marks)
    result = branches
    if partials:
        closed: dict[Partial, Expression] = {}
        for partial in partials:
            if letters[partial]:
                page.enter(letters[partial])
            written = len(page.lines)
            closed[partial] = expander.expand(partial)
            # A derivative that another branch has carried out already has no lines of its own
            # here.
            if len(page.lines) == written:
                page.write("known", of(partial), closed[partial], "as derived above")
        page.enter("")
        result = page.simplified(put_in(branches, closed), A.indices, B.indices)
        page.write("collect", whole, result, "the branches put in")
        # The result as the branches have it stays; this is one line more where the S is short, or
        # stands on another.
        written_out = expander.with_curvature_written_out(result, A.indices, B.indices)
        if written_out is not None:
            name, expression = written_out
            page.write("put in", result, expression, f"{name} written out")
            result = expression
    result = substitute(page, result, A.indices, B.indices)
    result = _signals_written_out(page, result, A.indices, B.indices)
    return Block(A, B, page.letters.nice(result, (*A.indices, *B.indices)), page.done())


def _branch_letters() -> Iterator[str]:
    """A, B, … Z, AA, AB, …"""
    lengths = (product(ascii_uppercase, repeat=length) for length in count(1))
    return map("".join, chain.from_iterable(lengths))


def _zero(page: Page, A: Entry, B: Entry, before: Expression, reason: str) -> Block:
    page.write("no dependence", before, ZERO, f"{reason}: the block is zero")
    return Block(A, B, ZERO, page.done())


def _rule(derived: Derivative, left: bool) -> Rule:
    """What the derivative of a first derivative is called: by the rule that was applied to all of
    it, or as one step.

    Args:
        derived: the derivative, with its rules.
        left: whether derivatives of named quantities are left to be carried out.
    """
    if derived.rule in (rules.PRODUCT, rules.SUM):
        return derived.rule
    return rules.CHAIN if left else Rule("derivative")


def _branches(page: Page, A: Entry, B: Entry) -> Expression:
    """∂/∂A of the first derivative, one term for each factor that A moves, by its kind."""
    parts = []
    # Without a δ all signals are put in, and no term has a kind.
    signals = bool(page.adjoints.quantity_of)
    for share, above, beside in page.adjoints.moved_shares(B, A, total_derivative(page.program)):
        # Where the cost itself is linear in the place of the parameter there is no δ, and only one
        # kind.
        named = signals and share.outer.number is None
        kinds: tuple[Kind | None, ...] = ("curvature from above", "product-rule term")
        parts += map(marked, (above, beside), kinds if named else (None, None))
    return page.letters.nice(
        page.simplified(add(*parts), A.indices, B.indices), (*A.indices, *B.indices)
    )


def substitute(
    page: Page, expression: Expression, rows: tuple[Index, ...], columns: tuple[Index, ...] = ()
) -> Expression:
    """An expression with f' and f'' of known functions written out, with the lines that say so, and
    the step that follows."""
    written = substituted(expression, page.program)
    if written is None:
        return expression
    page.program = written.program
    for line in written.lines:
        page.write(line.rule, line.before, line.after, line.reason)
    result = page.simplified(written.expression, rows, columns)
    # A second derivative of zero, as that of relu, takes its term with it.
    gone = len(result.terms) < len(expression.terms)
    page.write(
        "put in", expression, result, "and what is zero goes" if gone else "in terms of the values"
    )
    return result


def _signals_written_out(
    page: Page, result: Expression, rows: tuple[Index, ...], columns: tuple[Index, ...]
) -> Expression:
    """A result in its values where its δ are no more than those, as δ = p or δ = p − 1 is."""
    known = page.program.by_name
    for name in mentioned(result):
        quantity = known.get(name)
        if quantity is None or quantity.role != "delta":
            continue
        assert isinstance(quantity.definition, Expression)
        written = substituted(quantity.definition, page.program)
        value = quantity.definition if written is None else written.expression
        if not _is_value(value, page):
            continue
        put = written_out(result, quantity.entry, kept(value))
        after = page.simplified(put, rows, columns)
        page.write("put in", result, after, f"{name} written out")
        result = after
    return result


def _is_value(expression: Expression, page: Page) -> bool:
    """Whether an expression is a named value, its reciprocal or exponential, or that and a
    number."""
    match [factor for term in expression.terms for factor in term.factors]:
        case [Entry(name) | Power(Entry(name), _) | Apply("exp", 0, Entry(name))]:
            return name in page.program.by_name
    return False


def _where(page: Page, known: Expression, rows: str, columns: str) -> str:
    """Which factors of the first derivative contain the second parameter, and through what."""
    places = []
    for name in mentioned(known):
        if name == rows:
            places.append("directly")
        elif rows in page.program.ancestors(name):
            through = page.way(rows, name)
            places.append(f"in {name}" + (f" through {', '.join(through)}" if through else ""))
    head = f"from ∂{page.program.cost.name}/∂{columns}"
    return f"{head}; {rows} stands {listed(places)}" if places else head


def _mark(term: Term, letters: dict[Partial, str]) -> str:
    return next(
        (f"branch {letters[factor]}" for factor in term.factors if isinstance(factor, Partial)), ""
    )
