"""Third derivatives: a block differentiated once more, carried out in full."""

from hesse.derivation.calculus import rules
from hesse.derivation.calculus.algebra import partials_in, put_in
from hesse.derivation.calculus.differentiation import derivative, total_derivative
from hesse.derivation.calculus.expression import Partial, grouped, of
from hesse.derivation.calculus.program import Program
from hesse.derivation.lines.in_full import InFull
from hesse.derivation.lines.jacobian import page_of
from hesse.derivation.lines.records import Block, Derived
from hesse.derivation.lines.steps import substitute


def third_derivative(program: Program, block: Block, name: str) -> tuple[Derived, Program]:
    """∂³J/∂rows ∂columns ∂parameter, and the program with the names that it needed."""
    page = page_of(program, (name,), bounded=True)
    expander = InFull(page)
    page.begin()
    sides = (block.rows, block.columns)
    taken = {index.name for entry in sides for index in entry.indices}
    third = page.letters.beside(page.adjoints.entries[name], taken)
    whole = Partial(program.cost.entry, (*sides, third))
    free = tuple(index for entry in whole.by for index in entry.indices)
    derived = derivative(block.expression, third, total_derivative(program))
    step = page.letters.nice(page.simplified(derived.expression, free), free)
    start = of(Partial(grouped(block.expression), (third,)))
    page.write("start", of(whole), start, f"the block differentiated by {name}")
    rule = derived.rule if derived.rule != rules.LINEAR else rules.SUM
    page.write(rule.name, start, step, derived.rule.reason)
    partials = partials_in(step)
    result = step
    if partials:
        closed = {partial: expander.expand(partial) for partial in partials}
        result = page.simplified(put_in(step, closed), free)
        page.write("collect", of(whole), result, "all put in")
    result = page.letters.nice(substitute(page, result, free), free)
    return Derived(
        "a third derivative", "third_derivative", whole, whole.by, result, tuple(page.lines)
    ), page.program
