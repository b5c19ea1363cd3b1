"""The right-hand sides of a schedule's statements as Python code."""

import ast
from dataclasses import dataclass, field
from fractions import Fraction
from functools import singledispatch
from typing import Any

import torch

from hesse.derivation.calculus.expression import Index, Size
from hesse.derivation.calculus.program import BlackBox, Program
from hesse.derivation.code.array_code import Backend, modules
from hesse.derivation.code.array_code import code as code_of
from hesse.derivation.code.array_code import spelled as function_code
from hesse.derivation.code.identifiers import Names
from hesse.derivation.code.statements import (
    Argument,
    Combination,
    Contraction,
    Elementwise,
    Layout,
    Matmul,
    NamedMap,
    Node,
    Part,
    Product,
    Raised,
    Scale,
    Selection,
    Statement,
    Tensordot,
    Value,
    WholeArray,
    layout,
    letters,
    lowered,
    spelled,
)
from hesse.errors import HesseValueError

_LEVELS: dict[type[ast.operator], int] = {ast.Mult: 1, ast.Div: 1, ast.MatMult: 1, ast.Pow: 3}


@dataclass(frozen=True)
class Code:
    """A piece of Python, and how tightly its outermost operator binds: 0 a sum, 1 a product, 2 a
    sign, 3 a power, 4 an atom."""

    text: str
    level: int = 4

    def within(self, level: int) -> str:
        """The text, in parentheses where the place needs it."""
        return self.text if self.level >= level else f"({self.text})"


@dataclass
class Writer:
    """What the code so far has named.

    Attributes:
        program: what the statements come from.
        backend: whose functions are called.
        names: the identifiers taken.
        codes: how each array is written, by its statement.
        arguments: the identifier of each leaf that is an argument.
        functions: the identifier of each unknown function and derivative.
        lengths: the identifier of each symbolic size.
        imports: the modules used.
        spent: statements whose arrays nothing else takes.
    """

    program: Program
    backend: Backend
    names: Names
    codes: dict[int, Code] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    functions: dict[tuple[str, int], str] = field(default_factory=dict)
    lengths: dict[str, str] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)
    spent: set[int] = field(default_factory=set)

    def read(self, value: Value, axes: tuple[Index, ...] | None = None) -> Code:
        """An array, its axes arranged as asked."""
        return self.arranged(value, layout(value, value.axes if axes is None else axes))

    def arranged(self, value: Value, at: Layout) -> Code:
        """An array, its axes arranged as a layout says."""
        base = self.codes[value.id]
        order = tuple(axis for axis in at if axis is not None)
        text = base.within(4)
        changed = False
        if order != tuple(sorted(order)):
            permute = "transpose" if self.backend == "numpy" else "permute"
            text += ".T" if len(order) == 2 else f".{permute}({', '.join(map(str, order))})"
            changed = True
        if None in at:
            text += f"[{', '.join('None' if axis is None else ':' for axis in at)}]"
            changed = True
        return Code(text) if changed else base

    def length(self, size: Size) -> str:
        """A size as code."""
        if isinstance(size, int):
            return str(size)
        if size not in self.lengths:
            self.lengths[size] = self.names.new(size)
        return self.lengths[size]

    def _like(self) -> str | None:
        """An argument whose type of numbers the new arrays take."""
        return next(iter(self.arguments.values()), None)

    def zeros(self, axes: tuple[Index, ...]) -> str:
        whole, like = shape(tuple(self.length(index.size) for index in axes)), self._like()
        if self.backend == "torch":
            return f"{like}.new_zeros({whole})" if like else f"torch.zeros({whole})"
        return f"numpy.zeros({whole}, {like}.dtype)" if like else f"numpy.zeros({whole})"

    def constant(self, value: str) -> Code:
        """A number or nested list as an array of the arguments' type."""
        like = self._like()
        if self.backend == "torch":
            return Code(f"{like}.new_tensor({value})" if like else f"torch.tensor({value})")
        return Code(f"numpy.array({value}, {like}.dtype)" if like else f"numpy.array({value})")

    def derivative_name(self, function: str, order: int) -> str:
        return function if order == 0 else f"d{function}" if order == 1 else f"d{order}{function}"

    def call(self, function: str, order: int, argument: Code) -> Code:
        """An elementwise function."""
        if code_of(self.backend, function) and function not in self.program.unknown and order == 0:
            return self.known(function, argument)
        if (function, order) not in self.functions:
            self.functions[function, order] = self.names.new(self.derivative_name(function, order))
        return Code(f"{self.functions[function, order]}({argument.text})")

    def known(self, function: str, argument: Code) -> Code:
        """A function of the table."""
        self.imports |= modules(self.backend, function)
        text = function_code(self.backend, function, argument.text)
        match ast.parse(text, mode="eval").body:
            case ast.BinOp(op=op):
                return Code(text, _LEVELS.get(type(op), 0))
            case ast.UnaryOp():
                return Code(text, 2)
        return Code(text)

    def number(self, scale: Scale) -> Code:
        """A scale as code."""
        above, below = [abs(scale.number.numerator)], [scale.number.denominator]
        tops = [self._length_power(size, power) for size, power in scale.sizes if power > 0]
        bottoms = [self._length_power(size, -power) for size, power in scale.sizes if power < 0]
        if not tops and not bottoms:
            value = abs(scale.number)
            if value.denominator == 1:
                return Code(str(value.numerator))
            short = repr(float(value))
            return (
                Code(short)
                if Fraction(short) == value and len(short) <= 8
                else Code(f"{value.numerator} / {value.denominator}", 1)
            )
        top = " * ".join([*(str(n) for n in above if n != 1), *tops]) or "1"
        under = [*(str(n) for n in below if n != 1), *bottoms]
        if not under:
            return Code(top, 1 if " " in top else 4)
        return Code(f"{top} / {under[0] if len(under) == 1 else '(' + ' * '.join(under) + ')'}", 1)

    def _length_power(self, size: str, power: Fraction) -> str:
        text = self.length(size)
        return (
            text
            if power == 1
            else f"{text}**{power}"
            if power.denominator == 1
            else f"{text}**({power})"
        )

    def scaled(self, part: Part, axes: tuple[Index, ...]) -> Code:
        """One part with its sign."""
        made = self.size_of(part, axes)
        return Code(f"-{made.within(2)}", 2) if part.scale.number < 0 else made

    def size_of(self, part: Part, axes: tuple[Index, ...]) -> Code:
        """One part without its sign."""
        positive = Scale(abs(part.scale.number), part.scale.sizes)
        if part.value is None:
            return self.number(positive)
        made = self.read(part.value, axes)
        return (
            made
            if positive.is_one
            else Code(f"{self.number(positive).within(1)} * {made.within(2)}", 1)
        )

    def total(self, parts: tuple[Part, ...], axes: tuple[Index, ...], fresh: bool = False) -> Code:
        """The sum of parts; ``fresh``: an array of its own, whatever else."""
        if len(parts) == 1:
            made = self.scaled(parts[0], axes)
            value = parts[0].value
            if fresh and parts[0].scale.is_one and value is not None and value.id not in self.spent:
                return Code(f"{made.within(4)}.{'copy' if self.backend == 'numpy' else 'clone'}()")
            return made
        text = self.scaled(parts[0], axes).text
        for part in parts[1:]:
            text += f" {'-' if part.scale.number < 0 else '+'} {self.size_of(part, axes).within(1)}"
        return Code(text, 0)


def shape(sizes: tuple[Size, ...]) -> str:
    """Sizes as a tuple."""
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def covers(parts: tuple[Part, ...], axes: tuple[Index, ...]) -> bool:
    """Whether a sum of parts has all the axes."""
    return bool(parts) and {
        index for part in parts if part.value for index in part.value.axes
    } == set(axes)


def is_placed(statement: Statement) -> bool:
    """Whether a statement takes more than one line: zeros first."""
    node = statement.node
    if not isinstance(node, Combination):
        return False
    return any(part.equal for part in node.parts) or not covers(node.parts, statement.axes)


# ---------------------------------------- one piece of code for each kind of node


@singledispatch
def code(node: Node, statement: Statement, writer: Writer) -> Code:
    """The right-hand side of a statement."""
    raise NotImplementedError(f"no code for {type(node).__name__}")


@code.register
def _(node: Argument, statement: Statement, writer: Writer) -> Code:
    value: Any = torch.as_tensor(writer.program.leaves[node.name].value).tolist()
    return writer.constant(repr(value))


@code.register
def _(node: Elementwise, statement: Statement, writer: Writer) -> Code:
    return writer.call(node.function, node.order, writer.codes[node.argument.id])


@code.register
def _(node: WholeArray, statement: Statement, writer: Writer) -> Code:
    return writer.known(node.operation, writer.codes[node.argument.id])


@code.register
def _(node: NamedMap, statement: Statement, writer: Writer) -> Code:
    definition = writer.program.by_name[node.name].definition
    operation = definition.operation if isinstance(definition, BlackBox) else node.name
    raise HesseValueError(
        f"python: {operation} has no formula, so no code that stands alone can be written for"
        f" {node.name}; evaluate() computes this block, with the model's own operation"
    )


@code.register
def _(node: Raised, statement: Statement, writer: Writer) -> Code:
    base = writer.read(node.base, statement.axes)
    if isinstance(node.exponent, Value):
        return Code(
            f"{base.within(4)} ** {writer.read(node.exponent, statement.axes).within(4)}", 3
        )
    power = abs(node.exponent)
    if power == Fraction(1, 2):
        raised = writer.known("sqrt", base)
    elif power == 1:
        raised = base
    else:
        raised = Code(f"{base.within(4)}**{power if power.denominator == 1 else f'({power})'}", 3)
    return Code(f"1 / {raised.within(2)}", 1) if node.exponent < 0 else raised


@code.register
def _(node: Product, statement: Statement, writer: Writer) -> Code:
    return Code(
        " * ".join(writer.read(value, statement.axes).within(2) for value in node.factors), 1
    )


@code.register
def _(node: Contraction, statement: Statement, writer: Writer) -> Code:
    module = writer.backend
    match lowered(node, statement.axes):
        case Matmul(left, right, drop):
            a, b = writer.arranged(node.left, left), writer.arranged(node.right, right)
            text = f"{a.within(2)} @ {b.within(2)}"
            return (
                Code(text, 1)
                if drop is None
                else Code(f"({text})[{'..., 0' if drop == -1 else '..., 0, :'}]")
            )
        case Tensordot(first, second):
            a, b = writer.codes[node.left.id], writer.codes[node.right.id]
            return Code(
                f"{module}.tensordot({a.text}, {b.text}, ({shape(first)}, {shape(second)}))"
            )
        case other:
            a, b = writer.codes[node.left.id], writer.codes[node.right.id]
            return Code(f'{module}.einsum("{other.subscripts}", {a.text}, {b.text})')


@code.register
def _(node: Selection, statement: Statement, writer: Writer) -> Code:
    source, names = writer.codes[node.operand.id], letters(node.operand.axes, statement.axes)
    at = node.operand.axes
    if (
        len(set(at)) == len(at)
        and tuple(index for index in at if index in statement.axes) == statement.axes
    ):
        gone = tuple(k for k, index in enumerate(at) if index not in statement.axes)
        axes = "" if len(gone) == len(at) else gone[0] if len(gone) == 1 else gone
        return Code(f"{source.within(4)}.sum({axes})")
    subscripts = f"{spelled(at, names)}->{spelled(statement.axes, names)}"
    return Code(f'{writer.backend}.einsum("{subscripts}", {source.text})')


@code.register
def _(node: Combination, statement: Statement, writer: Writer) -> Code:
    if not statement.axes and all(part.value is None for part in node.parts):
        total = writer.total(node.parts, ())
        return writer.constant(total.text)
    return writer.total(node.parts, statement.axes, fresh=True)
