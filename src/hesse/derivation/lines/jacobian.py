"""The derivatives of a vector: ∂f/∂parameter, carried out in full."""

from hesse.derivation.calculus.expression import ZERO, Partial, of
from hesse.derivation.calculus.program import Program
from hesse.derivation.lines.adjoints import Adjoints, longest, natural_entry
from hesse.derivation.lines.in_full import InFull
from hesse.derivation.lines.page import Page
from hesse.derivation.lines.records import Slope


def page_of(program: Program, parameters: tuple[str, ...], bounded: bool) -> Page:
    """A page for derivatives that are carried out from the top down, without any δ."""
    entries = {name: natural_entry(program, name) for name in parameters}
    return Page(program, Adjoints(program, {}, entries, {}, {}, longest(program)), bounded=bounded)


def jacobian(page: Page, expander: InFull, name: str) -> Slope:
    """∂f_p/∂parameter, with a line for each rule."""
    page.begin()
    expander.begin()
    whole = page.program.cost.entry
    letters = {index.name for index in whole.indices}
    parameter = page.letters.beside(page.adjoints.entries[name], letters)
    partial = Partial(whole, (parameter,))
    if not page.program.depends(whole, name):
        why = f"{name} does not occur in {whole.name}"
        page.write("no dependence", of(partial), ZERO, why)
        return Slope(parameter, ZERO, tuple(page.lines))
    derived = expander.expand(partial)
    free = (*whole.indices, *parameter.indices)
    return Slope(parameter, page.letters.nice(derived, free), tuple(page.lines))
