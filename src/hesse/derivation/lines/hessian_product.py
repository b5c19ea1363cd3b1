"""The product of a Hessian with a vector, as a formula: what each block adds to it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hesse.derivation.calculus.algebra import add, multiply, renamed_to, total
from hesse.derivation.calculus.expression import Entry, Expression, Partial, of
from hesse.derivation.calculus.facts import facts
from hesse.derivation.calculus.normal_form import simplify
from hesse.derivation.calculus.picking import Picker, numbered
from hesse.derivation.calculus.program import Leaf, Program
from hesse.derivation.lines.letters import Letters
from hesse.derivation.lines.page import in_reading_order
from hesse.derivation.lines.records import Block, Derived, Line


def with_directions(
    program: Program, parameters: Sequence[str]
) -> tuple[Program, Mapping[str, str]]:
    """The program with a vector v for each parameter, of its shape, and what they are called:
    ``v`` of the only one, ``v_W1`` where there are several."""
    names = Picker(program.names | program.letters)
    wishes = {name: "v" if len(parameters) == 1 else f"v_{name}" for name in parameters}
    called = {name: names.pick(numbered([wish], 2)) for name, wish in wishes.items()}
    leaves = {
        called[name]: Leaf(called[name], program.shape(name), "direction") for name in parameters
    }
    return replace(program, leaves={**program.leaves, **leaves}), called


def product(program: Program, blocks: Sequence[Block], directions: Mapping[str, str]) -> Derived:
    """(H v)_a = Σ_b Σ ∂²J/∂a∂b v_b, in the rows of some parameter a.

    Args:
        program: with the directions among its leaves.
        blocks: those of one row of H, one for each parameter.
        directions: what v is called at each parameter.
    """
    rows, cost = blocks[0].rows, program.cost.entry
    starts, ends = [], []
    for block in blocks:
        v = of(Entry(directions[block.columns.name], block.columns.indices))
        whole = of(Partial(cost, (block.rows, block.columns)))
        for parts, value in ((starts, whole), (ends, block.expression)):
            summed = total(multiply(value, v), block.columns.indices)
            parts.append(renamed_to(summed, block.rows.indices, rows.indices))
    letters, free = Letters(program), rows.indices
    before = letters.nice(add(*starts), free)
    # The two kinds of terms meet in one sum.
    plain = Expression(tuple(replace(term, kind=None) for part in ends for term in part.terms))
    after = in_reading_order(simplify(plain, facts(program), free), free)
    after = letters.nice(after, free)
    called = "Hv" if len(directions) == 1 else f"Hv_{rows.name}"
    left = Entry(Picker(program.names).pick(numbered([called], 2)), free)
    why = "the rows of H, each block summed over its columns"
    line = Line("1", "put in", before, after, why)
    return Derived(
        f"the product H v at {rows.name}", "hessian_product", left, (rows,), after, (line,)
    )
