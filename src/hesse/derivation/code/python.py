"""A formula as Python: a function for NumPy, torch or JAX that stands alone."""

import ast
import keyword
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from textwrap import TextWrapper, indent
from typing import Any

import torch

from hesse.derivation.calculus.expression import Expression, Index, Size, indices
from hesse.derivation.calculus.program import Leaf, Program
from hesse.derivation.calculus.sizes import letters
from hesse.derivation.code.backends import BACKENDS, Backend
from hesse.derivation.code.binding import shape_text
from hesse.derivation.code.function import WIDTH, Function
from hesse.derivation.code.schedule import schedule
from hesse.derivation.code.statements import Combination, NamedMap, Schedule
from hesse.derivation.code.syntax import defined, literal, tree
from hesse.derivation.lines.records import Block
from hesse.errors import HesseTypeError, HesseValueError, nearest, printable

# Where a formula takes several lines, the later ones stand further in.
_FILL = TextWrapper(
    WIDTH - 8, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
)
# A constant with more entries than this is an argument: its numbers would bury the code.
_WRITTEN_OUT = 64


def python(
    block: Block | Expression,
    program: Program,
    backend: str = "numpy",
    name: str = "hessian_block",
    *,
    free: tuple[Index, ...] | None = None,
    formula: str = "",
    sizes: Mapping[str, int] | None = None,
    functions: Mapping[str, str] | None = None,
) -> str:
    """The source of a function that computes a block, of shape ``(*a.shape, *b.shape)``.

    It imports what it needs and nothing of hesse. Its arguments are the arrays that the formula
    needs, in the program's order, then the unknown functions with their derivatives; its
    intermediates have the names of the derivation.

    Args:
        block: a block of a derivation, or an expression.
        program: the leaves and quantities that it names.
        backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
        name: of the function.
        free: of an expression, the indices in the order of the result's axes.
        formula: what the docstring shows as the formula.
        sizes: numbers for symbolic sizes, where the order of the products shall fit them.
        functions: for unknown functions, the names of known ones that they stand for.

    Raises:
        HesseValueError: an unknown backend, a name that is no identifier or hides a module, or a
            map without a formula.

    Examples:
        >>> from hesse.derivation.calculus.expression import Entry, of
        >>> i, j = Index("i", "n"), Index("j", "n")
        >>> given = Program({"A": Leaf("A", ("n", "n"))}, ())
        >>> both = Expression(of(Entry("A", (i, j))).terms + of(Entry("A", (j, i))).terms)
        >>> print(python(both, given, name="hessian_of_quadratic_form"))
        import numpy
        <BLANKLINE>
        <BLANKLINE>
        def hessian_of_quadratic_form(A):
            \"\"\"An array of shape (n, n), with the axes [i, j].
        <BLANKLINE>
            Args:
                A: array of floats, of shape (n, n)
            \"\"\"
            H = A.copy()
            for k in range(0, len(H), 64):
                H[k:k + 64] += A[:, k:k + 64].copy().T
            return H
        <BLANKLINE>
    """
    source = source_of(
        block, program, backend, name, free=free, formula=formula, sizes=sizes, functions=functions
    )
    return f"{source.imports}\n\n\n{source.definition}"


@dataclass(frozen=True)
class Source:
    """The code of one function.

    Attributes:
        imports: the lines above it.
        definition: the function.
        leaves: those that it takes, in order.
        functions: the unknown functions that it takes after them, each with its order as a
            derivative.
    """

    imports: str
    definition: str
    leaves: tuple[str, ...]
    functions: tuple[tuple[str, int], ...]


def source_of(
    block: Block | Expression,
    program: Program,
    backend: str,
    name: str,
    *,
    free: tuple[Index, ...] | None = None,
    formula: str = "",
    sizes: Mapping[str, int] | None = None,
    functions: Mapping[str, str] | None = None,
) -> Source:
    """The code that `python` gives, in its parts."""
    library = library_called(backend)
    require_name(name, library)
    expression = block.expression if isinstance(block, Block) else block
    if isinstance(block, Block):
        free = (*block.rows.indices, *block.columns.indices)
    computation = schedule(
        expression, free if free is not None else indices(expression), program, sizes, functions
    )
    for statement in computation.statements:
        match statement.node:
            case NamedMap(quantity, operation):
                raise HesseValueError(
                    f"python: {operation} has no formula, so no code that stands alone can be"
                    f" written for {quantity}; evaluate() computes this block, with the model's"
                    " own operation"
                )
    leaves, written_out = _leaves(computation, program)
    function = Function(computation, program, library, library.names(name), leaves, written_out)
    return _source(function, name, leaves, formula)


def library_called(backend: str) -> Backend:
    """The record of a library.

    Raises:
        HesseValueError: there is none of that name.
    """
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise HesseValueError(
            f"backend: expected {' or '.join(map(repr, BACKENDS))}, got {backend!r}; nearest:"
            f" {nearest(str(backend), list(BACKENDS))}"
        )
    return BACKENDS[backend]


def require_name(name: str, library: Backend) -> None:
    """Refuse what cannot be the name of a function.

    Raises:
        HesseTypeError: no text.
        HesseValueError: no identifier, or the name of a module that the code calls.
    """
    if not isinstance(name, str):
        raise HesseTypeError(f"name: expected a name for a function, got {name!r}")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise HesseValueError(f"name: expected a name for a function, got {name!r}")
    if name in library.roots:
        raise HesseValueError(
            f"name: the function calls the module {name}, which a function called {name!r} would"
            " hide; give it another name"
        )


def _leaves(computation: Schedule, program: Program) -> tuple[list[Leaf], dict[str, Any]]:
    """The leaves that are arguments, and the values of those that are written out."""
    used = [leaf for leaf in program.leaves.values() if leaf.name in computation.arguments]
    values = {leaf.name: torch.as_tensor(leaf.value) for leaf in used if leaf.value is not None}
    written_out = {
        name: value.tolist() for name, value in values.items() if value.numel() <= _WRITTEN_OUT
    }
    written_out |= {leaf.name: leaf.pattern for leaf in used if leaf.pattern is not None}
    arguments = [leaf for leaf in used if leaf.name not in written_out]
    return [*arguments, *_holders(computation, program, used)], written_out


def _holders(computation: Schedule, program: Program, used: list[Leaf]) -> list[Leaf]:
    """Leaves that only give a size, or the type of the numbers."""
    known = {size for leaf in used if leaf.is_given for size in leaf.sizes}
    asked: list[Size] = [index.size for index in computation.free]
    asked += [leaf.pattern.unit for leaf in used if leaf.pattern is not None]
    for statement in computation.statements:
        if isinstance(statement.node, Combination):
            asked.extend(size for part in statement.node.parts for size, _ in part.scale.sizes)
    unused = [leaf for leaf in program.leaves.values() if leaf.is_given and leaf not in used]
    # Who calls the function has the parameters at hand.
    unused.sort(key=lambda leaf: leaf.role != "parameter")
    holders: list[Leaf] = []
    for size in dict.fromkeys(letter for one in asked for letter in letters(one)):
        holder = next((leaf for leaf in unused if size in leaf.sizes), None)
        if size not in known and holder is not None:
            holders.append(holder)
            known |= set(holder.sizes)
    return holders or ([] if used else unused[:1])


def _source(function: Function, name: str, leaves: list[Leaf], formula: str) -> Source:
    unknown, kind = sorted(function.writer.functions.items()), function.backend.array
    about = []
    for leaf, identifier in zip(leaves, function.arguments.values(), strict=True):
        meant = "" if identifier == leaf.name else f" ({leaf.name})"
        about.append(f"{identifier}{meant}: {kind} of floats, of shape {shape_text(leaf.sizes)}")
    article = "an" if kind[0] in "aeiou" else "a"
    for (name_of, order), identifier in unknown:
        derivative = name_of + "'" * order
        about.append(f"{identifier}: {derivative}, applied to every entry of {article} {kind}")
    lines = [*_lengths(function, leaves), *function.lines]
    code = [row for statement, comment in lines for row in _rows(statement, comment)]
    docstring = ast.Expr(ast.Constant(_docstring(function.schedule.free, formula, about)))
    parameters = [*function.arguments.values(), *(identifier for _, identifier in unknown)]
    definition = defined(name, parameters, [docstring])
    # The library itself is imported whatever the code calls.
    library, *others = function.backend.modules.values()
    imports = {library, *(path for path in others if any(f"{path}." in row for row in code))}
    return Source(
        "\n".join(f"import {path}" for path in sorted(imports)),
        "\n".join([ast.unparse(definition), *(f"    {row}" for row in code), ""]),
        tuple(leaf.name for leaf in leaves),
        tuple(of_function for of_function, _ in unknown),
    )


def _docstring(free: tuple[Index, ...], formula: str, about: list[str]) -> str:
    """What the result is, the formula, and the arguments, indented as they stand."""
    shape = shape_text(tuple(index.size for index in free))
    axes = ", ".join(index.name for index in free)
    paragraphs = [f"An array of shape {shape}, with the axes [{axes}]."]
    if formula:
        rows = (row for line in formula.splitlines() for row in _FILL.wrap(line) or [""])
        paragraphs.append(indent("\n".join(rows), " " * 8))
    if about:
        paragraphs.append("\n".join(["    Args:", *(f"        {argument}" for argument in about)]))
    return "\n\n".join(paragraphs) + ("\n    " if len(paragraphs) > 1 else "")


def _lengths(function: Function, leaves: list[Leaf]) -> Iterator[tuple[ast.stmt, str]]:
    """Each symbolic size, read from an argument that has it."""
    for size, identifier in function.writer.lengths.items():
        leaf = next((leaf for leaf in leaves if size in leaf.sizes), None)
        if leaf is None:
            raise HesseValueError(f"the size {size} is that of no leaf: give it a number")
        array, axis = function.arguments[leaf.name], literal(leaf.sizes.index(size))
        yield tree("n = array.shape[axis]", n=identifier, array=array, axis=axis), ""


def _rows(statement: ast.stmt, comment: str) -> list[str]:
    """A statement with its comment beside it, or above it where there is no room."""
    code, remark = ast.unparse(statement), f"# {printable(comment)}"
    if "\n" in code:  # a loop
        return [remark, *code.splitlines()] if comment else code.splitlines()
    if not comment or len(remark) > WIDTH:
        return [code]
    beside = f"{code}  {remark}"
    return [beside] if len(beside) < WIDTH else [remark, code]
