"""A formula as Python: a function for NumPy or torch that stands alone, in the order of its
schedule."""

from collections import Counter
from collections.abc import Mapping
from textwrap import TextWrapper

import torch

from hesse.derivation.calculus.expression import Expression, Index, Size, indices
from hesse.derivation.calculus.program import Leaf, Program
from hesse.derivation.code.array_code import BACKENDS
from hesse.derivation.code.identifiers import Names
from hesse.derivation.code.right_hand_sides import Code, Writer, code, covers, is_placed, shape
from hesse.derivation.code.schedule import schedule
from hesse.derivation.code.statements import (
    Argument,
    Combination,
    Contraction,
    Elementwise,
    Part,
    Schedule,
    Statement,
    diagonals,
    is_fresh,
    letters,
    operands,
    spelled,
)
from hesse.derivation.lines.records import Block
from hesse.errors import HesseValueError, nearest

# What is used once and no longer than this is written where it is used.
_SHORT = 28
_LINE = 60  # within a result that is that alone
_WIDTH = 96
_FILL = TextWrapper(
    _WIDTH - 8, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
)
# A constant with more entries than this is an argument.
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
        backend: ``"numpy"`` or ``"torch"``.
        name: of the function.
        free: of an expression, the indices in the order of the result's axes.
        formula: what the docstring shows as the formula.
        sizes: numbers for symbolic sizes, where the order of the products shall fit them.
        functions: for unknown functions, the names of known ones that they stand for.

    Raises:
        HesseValueError: an unknown backend, or a name that is no identifier.

    Example:
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
            return A + A.T
        <BLANKLINE>
    """
    if backend != "numpy" and backend != "torch":
        raise HesseValueError(
            f"backend: expected 'numpy' or 'torch', got {backend!r}; nearest:"
            f" {nearest(str(backend), list(BACKENDS))}"
        )
    if not name.isidentifier():
        raise HesseValueError(f"name: expected a name for a function, got {name!r}")
    expression = block.expression if isinstance(block, Block) else block
    if isinstance(block, Block):
        free = (*block.rows.indices, *block.columns.indices)
    made = schedule(
        expression, free if free is not None else indices(expression), program, sizes, functions
    )
    return _Function(made, Writer(program, backend, Names([name])), name).source(formula)


class _Function:
    """One function in the making."""

    def __init__(self, made: Schedule, writer: Writer, name: str) -> None:
        self.made, self.writer, self.function = made, writer, name
        self.lines: list[str] = []
        self.steps = 0

    # ---------------------------------------------------------------- the function

    def source(self, formula: str) -> str:
        """All of it."""
        self.writer.imports.add(self.writer.backend)
        self.uses = Counter(
            value.id for statement in self.made.statements for value in operands(statement.node)
        )
        self.writer.spent = {
            s.id
            for s in self.made.statements
            if self.uses[s.id] == 1 and is_fresh(s.node, self.writer.program.unknown)
        }
        used = [
            leaf for leaf in self.writer.program.leaves.values() if leaf.name in self.made.arguments
        ]
        written = {
            leaf.name
            for leaf in used
            if leaf.value is not None and torch.as_tensor(leaf.value).numel() <= _WRITTEN_OUT
        }
        self.leaves = [leaf for leaf in used if leaf.name not in written] + self._holders(used)
        self.writer.arguments = {
            leaf.name: self.writer.names.new(leaf.name) for leaf in self.leaves
        }
        for statement in self.made.statements:
            if (
                isinstance(statement.node, Argument)
                and statement.node.name in self.writer.arguments
            ):
                self.writer.codes[statement.id] = Code(self.writer.arguments[statement.node.name])
        *before, last = self.made.statements
        self.final = _start(last)
        for statement in before:
            if statement.id not in self.writer.codes:
                self._assign(statement)
        self._return(last)
        self.writer.functions = dict(sorted(self.writer.functions.items()))
        return "\n".join(
            [
                *self._head(),
                *self._docstring(formula),
                *(f"    {line}" for line in (*self._sizes(), *self.lines)),
                "",
            ]
        )

    def _holders(self, used: list[Leaf]) -> list[Leaf]:
        """Leaves that only give a size, or the type of the numbers."""
        known = {size for leaf in used if leaf.value is None for size in leaf.sizes}
        asked: list[Size] = [index.size for index in self.made.free]
        for statement in self.made.statements:
            if isinstance(statement.node, Combination):
                asked.extend(size for part in statement.node.parts for size, _ in part.scale.sizes)
        candidates = sorted(
            (
                leaf
                for leaf in self.writer.program.leaves.values()
                if leaf.value is None and leaf not in used
            ),
            key=lambda leaf: leaf.role != "parameter",
        )
        found: list[Leaf] = []
        for size in dict.fromkeys(asked):
            if isinstance(size, str) and size not in known:
                holder = next((leaf for leaf in candidates if size in leaf.sizes), None)
                if holder is not None and holder not in found:
                    found.append(holder)
                    known |= set(holder.sizes)
        if not used and not found and candidates:
            found.append(candidates[0])
        return found

    def _head(self) -> list[str]:
        arguments = [*self.writer.arguments.values(), *self.writer.functions.values()]
        imports = [f"import {name}" for name in sorted(self.writer.imports)]
        return [*imports, "", "", f"def {self.function}({', '.join(arguments)}):"]

    def _docstring(self, formula: str) -> list[str]:
        whole = shape(tuple(index.size for index in self.made.free))
        axes = ", ".join(index.name for index in self.made.free)
        lines = [f'"""An array of shape {whole}, with the axes [{axes}].', ""]
        if formula:
            safe = formula.replace("\\", "\\\\").replace('"""', "'''").splitlines()
            rows = (row for line in safe for row in _FILL.wrap(line) or [""])
            lines += [*(f"    {row}".rstrip() for row in rows), ""]
        kind = "array" if self.writer.backend == "numpy" else "tensor"
        about = []
        for leaf in self.leaves:
            own = self.writer.arguments[leaf.name]
            called = "" if own == leaf.name else f" ({leaf.name})"
            about.append(f"    {own}{called}: {kind} of floats, of shape {shape(leaf.sizes)}")
        for (function, order), own in self.writer.functions.items():
            marks = "'" * order
            about.append(
                f"    {own}: {function}{marks}, applied to every entry of"
                f" {'an' if kind == 'array' else 'a'} {kind}"
            )
        lines += ["Args:", *about] if about else []
        while lines[-1] == "":
            del lines[-1]
        return [
            f"    {line}".rstrip()
            for line in ([lines[0] + '"""'] if len(lines) == 1 else [*lines, '"""'])
        ]

    def _sizes(self) -> list[str]:
        lines = []
        for size, own in self.writer.lengths.items():
            leaf = next((leaf for leaf in self.leaves if size in leaf.sizes), None)
            if leaf is None:
                raise HesseValueError(f"the size {size} is that of no leaf: give it a number")
            lines.append(
                f"{own} = {self.writer.arguments[leaf.name]}.shape[{leaf.sizes.index(size)}]"
            )
        return lines

    # ---------------------------------------------------------------- lines

    def _assign(self, statement: Statement) -> None:
        inline = (
            statement.name is None and self.uses[statement.id] == 1 and not is_placed(statement)
        )
        if not is_placed(statement):
            made = code(statement.node, statement, self.writer)
            if isinstance(statement.node, Argument) or not (
                inline and len(made.text) <= (_LINE if statement.id == self.final else _SHORT)
            ):
                own = self._named(statement)
                line = f"{own} = {made.text}"
                comment = self._comment(statement, own)
                self.lines.append(line + comment if len(line) + len(comment) < _WIDTH else line)
                made = Code(own)
            self.writer.codes[statement.id] = made
            return
        own = self._named(statement)
        self._place(statement, own)
        self.writer.codes[statement.id] = Code(own)

    def _named(self, statement: Statement) -> str:
        match statement.node:
            case Elementwise(function, order, argument) if (
                statement.name is None and self.writer.codes[argument.id].text.isidentifier()
            ):
                return self.writer.names.new(
                    f"{self.writer.derivative_name(function, order)}"
                    f"_{self.writer.codes[argument.id].text}"
                )
        if statement.name:
            return self.writer.names.new(statement.name)
        self.steps += 1
        return self.writer.names.new(f"t{self.steps}")

    def _return(self, statement: Statement) -> None:
        if not is_placed(statement):
            made = code(statement.node, statement, self.writer).text
            line = (
                f"return numpy.asarray({made})"
                if not self.made.free and self.writer.backend == "numpy"
                else f"return {made}"
            )
            if len(line) <= _WIDTH or not isinstance(statement.node, Combination):
                self.lines.append(line)
                return
        own = self.writer.names.new("H")
        self._place(statement, own)
        self.lines.append(f"return {own}")

    def _place(self, statement: Statement, own: str) -> None:
        """An array of zeros, or of the parts that are everywhere, and then the parts that stand on
        diagonals."""
        node, writer = statement.node, self.writer
        assert isinstance(node, Combination)
        dense = tuple(part for part in node.parts if not part.equal)
        whole = (
            f"{own} = {writer.total(dense, statement.axes, fresh=True).text}"
            if covers(dense, statement.axes)
            else ""
        )
        if not whole or len(whole) > _WIDTH:
            start = next((part for part in dense if covers((part,), statement.axes)), None)
            begun = (
                writer.total((start,), statement.axes, fresh=True).text
                if start
                else writer.zeros(statement.axes)
            )
            whole = f"{own} = {begun}"
            dense = tuple(part for part in dense if part is not start)
        else:
            dense = ()
        self.lines.append(whole)
        for part in dense:
            self.lines.append(f"{own} {_added(part)} {writer.size_of(part, statement.axes).text}")
        for part in (part for part in node.parts if part.equal):
            stands = {index: first for first, index in part.equal}
            repeated = tuple(stands.get(index, index) for index in statement.axes)
            if writer.backend == "numpy":
                names, kept = letters(repeated), tuple(dict.fromkeys(repeated))
                view = (
                    f'numpy.einsum("{spelled(repeated, names)}->{spelled(kept, names)}",'
                    f" {own})[...]"
                )
                line = f"{view} {_added(part)} {writer.size_of(part, kept).text}"
            else:
                pairs, kept = diagonals(repeated)
                view = own + "".join(
                    f".diagonal(dim1={first}, dim2={second})" for first, second in pairs
                )
                method = "sub_" if part.scale.number < 0 else "add_"
                line = f"{view}.{method}({writer.size_of(part, kept).text})"
            where = (
                "# where"
                f" {', '.join(f'{first.name} = {second.name}' for first, second in part.equal)}"
            )
            self.lines.extend(
                [f"{line}  {where}"] if len(line) + len(where) < _WIDTH else [where, line]
            )

    def _comment(self, statement: Statement, own: str) -> str:
        """A contraction in indices."""
        node = statement.node
        if not isinstance(node, Contraction) or not all(
            self.writer.codes[value.id].text.isidentifier() for value in operands(node)
        ):
            return ""
        summed = dict.fromkeys(
            i.name
            for value in (node.left, node.right)
            for i in value.axes
            if i not in statement.axes
        )
        factors = " ".join(
            f"{self.writer.codes[value.id].text}[{','.join(i.name for i in value.axes)}]"
            for value in (node.left, node.right)
        )
        return (
            f"  # {own}[{','.join(i.name for i in statement.axes)}] = Σ_{','.join(summed)}"
            f" {factors}"
        )


def _added(part: Part) -> str:
    return "-=" if part.scale.number < 0 else "+="


def _start(statement: Statement) -> int | None:
    """The array that a result begins with: what the result is alone, or a sum's first part that has
    all the axes."""
    if not isinstance(statement.node, Combination):
        every = operands(statement.node)
        return every[0].id if len(every) == 1 else None
    whole = (
        part for part in statement.node.parts if not part.equal and covers((part,), statement.axes)
    )
    return next((part.value.id for part in whole if part.value is not None), None)
