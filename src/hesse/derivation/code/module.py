"""Several formulas as one Python module, and the functions of all blocks put together."""

import ast
from collections.abc import Iterable, Sequence
from textwrap import indent
from typing import TYPE_CHECKING

from hesse.derivation.code.identifiers import Names
from hesse.derivation.code.python import Source, library_called, require_name
from hesse.derivation.code.right_hand_sides import derivative_name
from hesse.derivation.code.syntax import literal, tree

if TYPE_CHECKING:
    from hesse.derivation.formula import BlockFormula, Formula


def merged(sources: Iterable[Source], *more: str) -> str:
    """The functions of a module, under what all of them import."""
    sources = tuple(sources)
    imports = sorted({line for source in sources for line in source.imports.splitlines()})
    return "\n\n\n".join(
        ["\n".join(imports), *(source.definition.rstrip() for source in sources), *more]
    )


def module(formulas: Sequence["Formula"], backend: str) -> str:
    """A function for each formula, such as ``hessian_W1_W2``."""
    return merged(source for _, source in _sources(formulas, backend, Names()))


def _sources(formulas: Sequence["Formula"], backend: str, names: Names) -> list[tuple[str, Source]]:
    """A function for each formula, by its name."""
    found = []
    for formula in formulas:
        kind = formula.derived.function.removesuffix("_block")
        by = "_".join(entry.name for entry in formula.derived.entries)
        name = names.new(f"{kind}_{by}")
        found.append((name, formula.source(backend, name)))
    return found


def hessian_module(
    blocks: Sequence["BlockFormula"], parameters: Sequence[str], backend: str, name: str
) -> str:
    """A module with a function for each block on and above the diagonal, and one of that name that
    puts them together, the parameters in this order."""
    library = library_called(backend)
    require_name(name, library)
    sources = _sources(blocks, backend, library.names(name))
    taken = library.names(name, *(function for function, _ in sources))
    program = blocks[0].derivation.program
    needed = {leaf for _, source in sources for leaf in source.leaves}
    leaves = {leaf: taken.new(leaf) for leaf in program.leaves if leaf in needed}
    derivatives = sorted({key for _, source in sources for key in source.functions})
    functions = {key: taken.new(derivative_name(*key)) for key in derivatives}
    H, array = taken.new("H"), taken.new("block")
    rows: list[str] = [f"{H} = {{}}"]
    for block, (function, source) in zip(blocks, sources, strict=True):
        given = ", ".join(
            [*map(leaves.__getitem__, source.leaves), *map(functions.__getitem__, source.functions)]
        )
        axes = range(len(block.rows.indices))
        count = " * ".join(f"{array}.shape[{axis}]" for axis in axes) or "1"
        pair = parameters.index(block.rows.name), parameters.index(block.columns.name)
        place, turned = (f"{H}[{a}, {b}]" for a, b in (pair, pair[::-1]))
        rows += [f"{array} = {function}({given})", f"{place} = {array}.reshape({count}, -1)"]
        if pair[0] != pair[1]:
            rows.append(f"{turned} = {place}.T")
    i, j = taken.new("i"), taken.new("j")
    each = f"range({len(parameters)})"
    row = tree(f"[{H}[{i}, {j}] for {j} in {each}]")
    row = library.tree(library.joined, arrays=row, axis=literal(1))
    rows_of = tree(f"[row for {i} in {each}]", row=row)
    whole = library.tree(library.joined, arrays=rows_of, axis=literal(0))
    rows.append(f"return {ast.unparse(whole)}")
    arguments = ", ".join([*leaves.values(), *functions.values()])
    about = f"The Hessian of {', then '.join(parameters)}, each counted row by row: a matrix."
    head = f'def {name}({arguments}):\n    """{about}"""\n'
    return merged([source for _, source in sources], head + indent("\n".join(rows), "    ") + "\n")
