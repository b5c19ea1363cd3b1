"""What is known of the arrays of a program: which add to a number, are symmetric or orthogonal."""

from hesse.derivation.calculus.algebra import renamed_to, total
from hesse.derivation.calculus.contraction import Facts
from hesse.derivation.calculus.expression import Entry, Expression
from hesse.derivation.calculus.normal_form import collect, same
from hesse.derivation.calculus.program import ArrayCall, Program, Quantity
from hesse.operations.registry import ARRAY_FUNCTIONS


def facts(program: Program) -> Facts:
    """What a program says of its arrays, by what is declared and by how they are made."""
    # A program does not change, and each line asks.
    known: Facts | None = vars(program).get("_facts")
    if known is None:
        known = vars(program)["_facts"] = _facts(program)
    return known


def _facts(program: Program) -> Facts:
    leaves = program.leaves.items()
    structures = [(name, leaf.structure) for name, leaf in leaves if leaf.structure]
    sums = {name: leaf.sums_to for name, leaf in leaves if leaf.sums_to is not None}
    # x[0] is a product with a unit vector, of which one entry is 1.
    sums |= {name: 1 for name, leaf in leaves if leaf.pattern and leaf.pattern.is_unit_vector}
    symmetric = {name for name, structure in structures if structure.symmetric}
    # What is inverted, or has its determinant taken, is often XᵀX + λI.
    squares: set[str] = set()
    for quantity in program.quantities:
        match quantity.definition:
            case ArrayCall(operation, Entry(name, indices)):
                if ARRAY_FUNCTIONS[operation].distribution:
                    sums[quantity.name] = 1
                if ARRAY_FUNCTIONS[operation].axes == 2 and len(indices) == 2:
                    squares.add(name)
    for quantity in program.quantities:
        if _is_centred(quantity):
            sums[quantity.name] = 0
        match quantity.definition:
            case Expression() as definition if quantity.name in squares:
                turned = renamed_to(definition, quantity.indices, quantity.indices[::-1])
                if same(definition, turned, Facts(symmetric=frozenset(symmetric))):
                    symmetric.add(quantity.name)
            case ArrayCall("inv", Entry(name)) if name in symmetric:
                symmetric.add(quantity.name)
    return Facts(
        sums,
        frozenset(symmetric),
        {name: frozenset({0, 1}) for name, structure in structures if structure.orthogonal}
        | {name: leaf.pattern.isometric for name, leaf in leaves if leaf.pattern is not None},
    )


def _is_centred(quantity: Quantity) -> bool:
    """Whether the entries along the last axis add to zero, as x − mean(x) does."""
    # A quantity is one of many programs, as each of its derivatives is named.
    known: bool | None = vars(quantity).get("_centred")
    if known is None:
        match quantity.definition:
            case Expression(terms) if len(terms) > 1 and any(term.bound for term in terms):
                last = quantity.indices[-1:]
                known = bool(last) and collect(total(quantity.definition, last)).is_zero
            case _:
                known = False
        vars(quantity)["_centred"] = known
    return known
