"""What a record of an operation can hold.

A record is a fast path, never a condition of being right: an operation without one, or a field that
is left out, goes the general way, by automatic differentiation of that operation alone. The parts
of a record are functions of plain data from `hesse.graph` (numbers) or of a `Call` (formulas), so
that no rule knows what it is used for.
"""

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Flag, auto
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from hesse.graph.graph import Node

if TYPE_CHECKING:
    from hesse.derivation.calculus.expression import Entry, Expression, Index
    from hesse.derivation.sources.networks.call import Call
    from hesse.derivation.sources.networks.view import View
    from hesse.graph.local import Local
    from hesse.graph.parameter_view import ParameterView
    from hesse.graph.sites import Site

aten = torch.ops.aten
Shapes = Mapping[str, tuple[int, ...]]
# For each value the axis that its positions lie on, or SUMMED where they have been summed.
Axes = dict[str, int]
SUMMED = -1


# ELEMENTWISE, LINEAR, MULTILINEAR and PIECEWISE_LINEAR are the field's words; STEP is zero slope
# wherever there is one. The last three say how a linear operation only moves entries.
class Structure(Flag):
    """What is declared of an operation, true wherever its derivatives exist.

    Attributes:
        ELEMENTWISE: one function of each entry of its first argument; everything else in the call
            is a constant.
        ENTRYWISE: entry by entry in whichever argument moves alone and has the shape of the result,
            the others given.
        FLAT: its second derivative is zero where a single argument moves.
        LINEAR: linear in all arguments that move together.
        LINEAR_IN_FIRST: linear in its first argument by itself.
        MULTILINEAR: linear in each argument by itself.
        PIECEWISE_LINEAR: linear where it selects.
        STEP: no derivative passes through.
        RELABELS: the same entries in the same order on other axes.
        PERMUTES: the same entries in another order.
        SELECTS: some of the entries.
    """

    NONE = 0
    ELEMENTWISE = auto()
    ENTRYWISE = auto()
    FLAT = auto()
    LINEAR = auto()
    LINEAR_IN_FIRST = auto()
    MULTILINEAR = auto()
    PIECEWISE_LINEAR = auto()
    STEP = auto()
    RELABELS = auto()
    PERMUTES = auto()
    SELECTS = auto()


# Where the entries of an argument only go to other places.
MOVES = Structure.RELABELS | Structure.PERMUTES | Structure.SELECTS


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function of each entry, as formulas know it.

    A derivative is text in ``z``, the argument, and ``a``, the function's own value: sigmoid's is
    ``a*(1 - a)``.

    Attributes:
        value: on a tensor; automatic differentiation gives every derivative that a check needs.
        derivatives: of order one and two, as text in ``z`` and ``a``; fewer where no formula has
            more.
        numpy: its NumPy code in ``z``, without overflow at either end.
        torch: its torch code in ``z``.
        at_once: whether a derivation writes the derivative out at once (log' is 1/z) rather than as
            f' first.
        kink: where the derivatives hold, for a function that has a kink.
        word: whether it can be called in the language of formulas.
        letter: the letter that people write for it.
        latex: how LaTeX writes it.
        range: between which numbers its values lie.
        options: the arguments after the first, or the first of them, with which the ATen operation
            is this function. With others it is one whose derivatives stay symbols.
    """

    value: Callable[[Tensor], Tensor]
    derivatives: tuple[str, ...]
    numpy: str
    torch: str
    at_once: bool = False
    kink: str = ""
    word: bool = True
    letter: str = ""
    latex: str = ""
    range: tuple[float, float] = (-math.inf, math.inf)
    options: tuple[Any, ...] = ()

    # At the record's own line, not when a derivation first meets it.
    def __post_init__(self) -> None:
        for order, text in enumerate(self.derivatives, start=1):
            if not _names(text)[0] <= {"z", "a"}:
                raise ValueError(
                    f"derivative {order}, {text!r}: write it in z, the argument, and a, the"
                    " function's own value"
                )
        _check_code(self.torch, "torch", torch)

    @cached_property
    def slope_by_value(self) -> Callable[[Tensor], Tensor] | None:
        """The derivative from the function's own value; ``None`` where it is not made of that
        alone."""
        if not self.derivatives or _names(self.derivatives[0]) != ({"a"}, set()):
            return None
        return eval(f"lambda a: {self.derivatives[0]}", {"__builtins__": {}})

    @property
    def mentions(self) -> set[str]:
        """The functions that the derivatives call."""
        return set().union(*(_names(text)[1] for text in self.derivatives))


def _names(text: str) -> tuple[set[str], set[str]]:
    """The names that an expression reads, and those that it calls."""
    nodes = list(ast.walk(ast.parse(text)))
    called = {node.func for node in nodes if isinstance(node, ast.Call)}
    read = {node.id for node in nodes if isinstance(node, ast.Name) and node not in called}
    return read, {ast.unparse(function) for function in called}


def _check_code(text: str, name: str, module: Any) -> None:
    """Refuse code that calls what a module does not have."""
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Attribute) and ast.unparse(node).startswith(f"{name}.")):
            continue
        value = module
        for part in ast.unparse(node).split(".")[1:]:
            if not hasattr(value, part):
                raise ValueError(f"code {text!r}: there is no {ast.unparse(node)}")
            value = getattr(value, part)


# The value of a named function at indices, such as softmax's own in its slope.
NameOfValue = Callable[[str, "tuple[Index, ...]"], "Entry"]


@dataclass(frozen=True, kw_only=True)
class ArrayFunction:
    """A function of a whole array, along its last axis or of its last two, as formulas know it.

    Attributes:
        value: on arrays; it maps over leading axes.
        derivative: ∂ out[at] / ∂ argument[by], given the entry ``out[at]``, the argument's entry,
            the indices ``by``, and a maker of entries of other functions of the same argument.
            Second derivatives follow by differentiating that again.
        axes: how many of the argument's last axes it sees; ``out`` has the others in common with
            the argument. Two are square.
        keeps: how many of those axes the result has.
        reason: half a sentence for the line of the derivation.
        companion: the function of the same argument that its derivative mentions.
        numpy, torch: its code in ``z``.
        text, latex: how it is written, with ``{}`` for its argument; by default its name before the
            argument in parentheses.
        base: the letter that people give its values; by default they are called by its name and
            that of the argument.
        range: between which numbers its values lie.
        distribution: whether the entries along the last axis add to one.
    """

    value: Callable[[Tensor], Tensor]
    derivative: "Callable[[Entry, Entry, tuple[Index, ...], NameOfValue], Expression]"
    axes: int
    keeps: int
    reason: str
    companion: str = ""
    numpy: str
    torch: str
    text: str = ""
    latex: str = ""
    base: str = ""
    range: tuple[float, float] = (-math.inf, math.inf)
    distribution: bool = False


@dataclass(frozen=True, kw_only=True)
class LossFunction:
    """A loss of PyTorch's: a mean, or a sum, over what it compares.

    Attributes:
        function: in `torch.nn.functional`.
        module: in `torch.nn`.
        word: what `hesse.Cost` calls it; empty where only the function and the module are known
            there.
        divisor: what its mean divides the sum by: the number of entries, that of samples, or the
            weights of the classes that are targets and not ignored.
    """

    function: Callable[..., Tensor]
    module: type[torch.nn.Module]
    word: str = ""
    divisor: Literal["entries", "samples", "class weights"] = "entries"


# A node and the shapes of all values -> the nodes that replace it.
Rewrite = Callable[[Node, dict[str, tuple[int, ...]]], list[Node]]
# The site of a parameter that enters through a node; None where it enters in another way.
Recogniser = Callable[[Node, "Mapping[str, ParameterView]", Shapes], "Site | None"]
# The vector-Jacobian product (pull-back) of many columns at once.
Pull = Callable[["Local", Tensor], tuple[Tensor, ...] | None]
# The second derivative contracted with δ, by pairs of active inputs.
SecondDerivative = Callable[["Local", Tensor], Any]
# On which axis the positions lie afterwards; None where the operation mixes them.
Positions = Callable[[Node, Axes, Shapes], Axes | None]
# The value in the language of formulas; None for options that have no formula.
Formula = Callable[["Call"], "View | None"]
# (node, tensor, how many axes lead) -> the part of the tensor, in place, that is the node's value.
Selection = Callable[[Node, Tensor, int], Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class Operation:
    """All that is known of one operation.

    Attributes:
        name: what to call it; a function of the language of formulas by its word.
        aten: its names in `torch.ops.aten`, with spaces between.
        stands_for: functions of hesse's own that stand for it in a captured graph.
        structure: what is declared of it.
        rewrite: a node -> the nodes that replace it in a graph, for what has no second derivatives
            or hides where parameters enter; the last one keeps the name.
        site: how parameters enter through it, where it is linear in them.
        kinds: what the axes of its first parameter are, for the letters of formulas.
        pull: Jᵀ, the vjp, on cotangents, k for each sample (in the rules: columns), (n, k, *value)
            -> (n, k, *input) for each active input; ``None`` for a call that it does not know.
        costly: whether the Jacobian, though written out, is another one for every sample.
        second: Σ δ · ∂²value/∂inputs², blocks (n, entries of one active input, *other active
            input); ``None`` likewise.
        selected: where the entries of its value lie in its input, for what selects or turns axes.
        positions: the axes that the positions of its inputs go to where they do not meet; ``None``
            where they do.
        formula: its value as an expression; ``None`` for a call that it does not know.
        function: as a function of each entry.
        array: as a function of a whole array.
        loss: as a loss.
    """

    name: str
    aten: str = ""
    stands_for: tuple[Callable[..., Any], ...] = ()
    structure: Structure = Structure.NONE
    rewrite: Rewrite | None = None
    site: Recogniser | None = None
    kinds: tuple[str, str] | None = None
    pull: Pull | None = None
    costly: bool = False
    second: SecondDerivative | None = None
    selected: Selection | None = None
    positions: Positions | None = None
    formula: Formula | None = None
    function: Function | None = None
    array: ArrayFunction | None = None
    loss: LossFunction | None = None

    @property
    def targets(self) -> list[Any]:
        """What stands for it in a graph: packets of overloads that the installed PyTorch has, and
        hesse's own functions."""
        return [
            *(getattr(aten, name) for name in self.aten.split() if hasattr(aten, name)),
            *self.stands_for,
        ]

    def has(self, structure: Structure) -> bool:
        """Whether any of this is declared."""
        return bool(self.structure & structure)

    def is_elementwise(self, node: Node, active: tuple[str, ...], shapes: Shapes) -> bool:
        """Whether a node is one function applied to each entry of its single active input."""
        if len(active) != 1 or not node.takes_once(active[0]):
            return False
        # Other inputs broadcast against a leading sample axis only where their rank is the same.
        ranks = {len(shapes[name]) for name in node.inputs}
        if shapes[active[0]] != node.shape or len(ranks) > 1:
            return False
        return self.has(Structure.ENTRYWISE) or (
            self.has(Structure.ELEMENTWISE) and node.takes_first(active[0])
        )

    def is_linear(self, node: Node, active: tuple[str, ...]) -> bool:
        """Whether a node is (piecewise) linear in its active inputs together."""
        if self.has(Structure.LINEAR | Structure.PIECEWISE_LINEAR | MOVES):
            return True
        single = len(active) == 1 and node.takes_once(active[0])
        first = single and node.takes_first(active[0])
        return (single and self.has(Structure.MULTILINEAR)) or (
            first and self.has(Structure.FLAT | Structure.LINEAR_IN_FIRST)
        )
