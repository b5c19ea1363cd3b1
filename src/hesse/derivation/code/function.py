"""A schedule as the lines of a function, in Python's own syntax: what is printed is what runs."""

import ast
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from hesse.derivation.calculus.expression import Index
from hesse.derivation.calculus.program import Leaf, Program
from hesse.derivation.calculus.structures import Pattern
from hesse.derivation.code.backends import Backend
from hesse.derivation.code.identifiers import Names
from hesse.derivation.code.right_hand_sides import CodeWriter, derivative_name, right_hand_side
from hesse.derivation.code.statements import (
    Applied,
    Argument,
    Combination,
    Contraction,
    Part,
    Schedule,
    Statement,
    Value,
    covers,
    is_fresh,
    operands,
)
from hesse.derivation.code.syntax import occurrences, text_length, tree

WIDTH = 96
# What is used once and no longer than this is written where it is used.
_SHORT = 28
# A matrix of so many rows is added to its transpose in strips.
_STRIP = 256
_ALONE = WIDTH - len("    H = ")  # where the result begins with it, on a line that is that alone


class Function:
    """The lines of a function, and the identifiers of all that they need from outside.

    Nothing that a formula is called by stands in the lines but as an identifier of ``names``, or
    as a constant.

    Args:
        schedule: what it computes.
        program: the leaves and unknown functions that the schedule names.
        backend: the library whose arrays it computes with.
        names: the identifiers taken.
        arguments: the leaves that are names here, in order.
        written_out: the values of the other leaves, as nested lists.
        like: an identifier of an array whose type of numbers new arrays take, where there is no
            argument.

    Attributes:
        lines: statements of Python, each with what a reader should know of it.
        arrays: what the lines assign, by its identifier.
    """

    def __init__(
        self,
        schedule: Schedule,
        program: Program,
        backend: Backend,
        names: Names,
        arguments: Iterable[Leaf],
        written_out: Mapping[str, Any],
        like: str | None = None,
    ) -> None:
        self.schedule, self.backend, self.names = schedule, backend, names
        self.arguments = {leaf.name: names.new(leaf.name) for leaf in arguments}
        like = next(iter(self.arguments.values()), like)
        self.writer = CodeWriter(backend, names, like, program.unknown, written_out)
        self.lines: list[tuple[ast.stmt, str]] = []
        self.arrays: dict[str, Statement] = {}
        self._unnamed = 0
        # Code that names its argument twice would compute twice what is written in its place.
        self._uses = Counter(
            value.id
            for statement in schedule.statements
            for value in operands(statement.node) * self._occurrences(statement)
        )
        # What a single statement takes can be written over by it.
        self.writer.spent = {
            statement.id
            for statement in schedule.statements
            if self._uses[statement.id] == 1 and is_fresh(statement.node, program.unknown)
        }
        *before, last = schedule.statements
        beginning = _beginning(last)
        for statement in before:
            match statement.node:
                case Argument(name) if name in self.arguments:
                    self.writer.arrays[statement.id] = tree("a", a=self.arguments[name])
                case Argument(name) if isinstance(pattern := written_out.get(name), Pattern):
                    self._add_pattern(statement, pattern)
                case _:
                    self._add(statement, _ALONE if statement.id == beginning else _SHORT)
        self._return(last)

    def _occurrences(self, statement: Statement) -> int:
        """How often the code of a statement names its operands: that of some functions twice."""
        match statement.node:
            case Applied(name) if code := self.backend.function(name):
                return occurrences(code, "z")
        return 1

    def _line(self, template: str, comment: str = "", **places: Any) -> None:
        self.lines.append((tree(template, **places), comment))

    def _add(self, statement: Statement, most: int) -> None:
        """A line for a statement; where it is used in one place and short, its code there."""
        if self._is_placed(statement):
            identifier = self._identifier(statement)
            self._place(statement, identifier)
        else:
            code = right_hand_side(statement.node, statement.axes, self.writer)
            once = statement.name is None and self._uses[statement.id] == 1
            if once and text_length(code) <= most:
                self.writer.arrays[statement.id] = code
                return
            identifier = self._identifier(statement)
            self._line(
                "array = code", self._comment(statement, identifier), array=identifier, code=code
            )
        self.arrays[identifier] = statement
        self.writer.arrays[statement.id] = tree("array", array=identifier)

    def _add_pattern(self, statement: Statement, pattern: Pattern) -> None:
        """The lines of a constant that is as large as the arguments ask."""
        unit = self.writer.unit(pattern.unit)
        if occurrences(pattern.code, "unit") > 1:
            identifier = self.names.new("unit")
            self._line("unit = code", unit=identifier, code=unit)
            unit = tree("unit", unit=identifier)
        identifier = self._identifier(statement)
        shape = self.writer.shape(pattern.sizes)
        self._line(
            "array = code", array=identifier, code=tree(pattern.code, unit=unit, shape=shape)
        )
        self.arrays[identifier] = statement
        self.writer.arrays[statement.id] = tree("array", array=identifier)

    def _identifier(self, statement: Statement) -> str:
        if statement.name:
            return self.names.new(statement.name)
        match statement.node:
            case Applied(function, order, Value(inner)):
                match self.writer.arrays[inner]:
                    case ast.Name(name):
                        return self.names.new(f"{derivative_name(function, order)}_{name}")
        self._unnamed += 1
        return self.names.new(f"t{self._unnamed}")

    def _return(self, statement: Statement) -> None:
        code = None
        if not self._is_placed(statement):
            code = right_hand_side(statement.node, statement.axes, self.writer)
        if code is None or (isinstance(statement.node, Combination) and text_length(code) > _ALONE):
            # What takes more than a line gets a name, and its parts a line each.
            code = self.names.new("H")
            self._place(statement, code)
        if not self.schedule.free:
            code = self.writer.word(self.backend.result, value=code)
        self._line("return code", code=code)

    def _place(self, statement: Statement, identifier: str) -> None:
        """Zeros, or the parts that are everywhere; then those that are repeated along axes, and
        those that stand on diagonals."""
        node, axes, writer = statement.node, statement.axes, self.writer
        assert isinstance(node, Combination)
        dense = tuple(part for part in node.parts if not part.equal)
        first = dense if covers(dense, axes) else ()
        turned = [part for part in dense[1:] if self._is_turned(part, axes)]
        if turned or (first and text_length(writer.total(first, axes)) > _ALONE):
            # What has all the axes, to which the others are added in place: they are too long for
            # a line, or take one of their own.
            first = next(((part,) for part in dense if covers((part,), axes)), ())
        whole = writer.fresh_total(first, axes) if first else writer.zeros(axes)
        self._line("array = whole", array=identifier, whole=whole)
        for part in node.parts:
            if part in first:
                continue
            if part.equal:
                where = ", ".join(f"{left.name} = {right.name}" for left, right in part.equal)
                placed = writer.onto_diagonals(identifier, part, axes)
                self.lines.append((placed, f"where {where}"))
            elif part in turned and part.value is not None:
                matrix = writer.scaled(part, part.value.axes)
                self._line(
                    writer.backend.plus_transposed,
                    array=identifier,
                    matrix=matrix,
                    k=self.names.new("k"),
                )
            else:
                self._line("array += part", array=identifier, part=writer.scaled(part, axes))

    def _is_placed(self, statement: Statement) -> bool:
        """Whether a statement takes more than one line: zeros first, or one part first."""
        node = statement.node
        return isinstance(node, Combination) and (
            any(part.equal for part in node.parts)
            or not covers(node.parts, statement.axes)
            or any(self._is_turned(part, statement.axes) for part in node.parts[1:])
        )

    def _is_turned(self, part: Part, axes: tuple[Index, ...]) -> bool:
        """Whether a part is the transpose of a matrix that is large, as far as is known."""
        turned = part.value is not None and len(axes) == 2 and part.value.axes == axes[::-1]
        sizes = (index.size for index in axes)
        return turned and not part.equal and all(isinstance(n, str) or n >= _STRIP for n in sizes)

    def _comment(self, statement: Statement, identifier: str) -> str:
        """A contraction in indices."""
        node = statement.node
        arrays = [self.writer.arrays[value.id] for value in operands(node)]
        if not isinstance(node, Contraction) or not all(isinstance(a, ast.Name) for a in arrays):
            return ""
        axes = [statement.axes, node.left.axes, node.right.axes]
        result, *factors = (
            f"{array}[{','.join(index.name for index in indices)}]"
            for array, indices in zip((identifier, *map(ast.unparse, arrays)), axes, strict=True)
        )
        every = dict.fromkeys((*node.left.axes, *node.right.axes))
        summed = ",".join(index.name for index in every if index not in statement.axes)
        return f"{result} = Σ_{summed} {' '.join(factors)}"


def _beginning(statement: Statement) -> int | None:
    """The array that a result begins with: what the result is alone, or a sum's first part that has
    all the axes."""
    if not isinstance(statement.node, Combination):
        first, *others = operands(statement.node)
        return None if others else first.id
    for part in statement.node.parts:
        if part.value and not part.equal and covers((part,), statement.axes):
            return part.value.id
    return None
