"""The product H v of one term of the cost as a straight-line program, tensor operations without
branches, traced once and linear in v.

    H v = d/dε ∇J(θ + ε v) at ε = 0

is traced, forward over reverse or by double backward, with placeholders for θ, for the batch and
for v. What does not depend on v (the activations, the backward signals, f' and f'') goes to one
program, ``prepare``, and the rest, linear in v, to another, ``apply``. One trace serves every batch
of the same shapes and every θ.

`torch.func.linearize` has the same idea and stops short of it: it traces anew for every batch and
every θ, and in-place operations keep it from moving everything that it could out of the product.
"""

import operator
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from hesse.capture.forms import NeedsValue
from hesse.capture.norms import UnfusedNorms
from hesse.capture.product_price import bytes_of, product_price, values
from hesse.capture.recording import Program, Unsuitable, copied, record
from hesse.capture.restriction import restricted
from hesse.capture.several import several
from hesse.capture.simplification import simplify
from hesse.capture.simplification.graph import drop_unused, moving
from hesse.capture.single import single
from hesse.capture.tracing import tracing
from hesse.derivatives import Tensors
from hesse.process.convolutions import laid_out
from hesse.process.memory import require_free
from hesse.process.price import Price
from hesse.process.quiet import quiet
from hesse.process.rehearsal import traits_of

aten = torch.ops.aten

_OF_MATRICES = (aten.bmm.default, aten.baddbmm.default)

# A thread has a stack of 8 MB; one that has no room for its own data ends the process, or never
# says that it has started.
_STACK = 16 * 10**6


@dataclass(frozen=True)
class TracedProduct:
    """H v of one term, cut in two.

    Attributes:
        prepare: (*θ, *inputs) -> everything that ``apply`` needs and that does not depend on v.
        apply: (*kept, *v) -> H v, a list with one tensor per parameter.
        parameters: how many there are.
        workspace: the most bytes that ``apply`` holds at once for one v, with its result and
            without what is kept.
        room: likewise, with what convolutions lay out besides.
        kept: bytes of what is kept.
        preparing: the most bytes that ``prepare`` holds at once, with what is kept and with what
            convolutions lay out.
        plain: likewise of a product as it was before it was cut and simplified, which is about what
            double backward holds.
    """

    prepare: Program
    apply: Program
    parameters: int
    workspace: int
    room: int
    kept: int
    preparing: int
    plain: int
    _sides: dict[tuple[int, frozenset[int]], Program] = field(default_factory=dict)
    _rows: dict[tuple[int, frozenset[int]], Program] = field(default_factory=dict)
    _spaces: dict[tuple[int, frozenset[int]], tuple[int, int]] = field(default_factory=dict)
    _prices: dict[tuple[int, frozenset[int]], Price] = field(default_factory=dict)

    def side(self, moving: int, outputs: frozenset[int]) -> Program:
        """``apply`` for the v that move one parameter, and the parts of H v of some, in their
        order: (*kept, that part of v) -> those parts."""
        key = moving, outputs
        if key not in self._sides:
            self._sides[key] = restricted(self.apply, self.parameters, moving, sorted(outputs))
        return self._sides[key]

    def rows(self, moving: int, outputs: frozenset[int]) -> Program:
        """Likewise for several unit vectors, given with the places of their ones."""
        key = moving, outputs
        if key not in self._rows:
            self._rows[key] = several(self.side(moving, outputs), units=True)
        return self._rows[key]

    def space(self, moving: int, outputs: frozenset[int]) -> tuple[int, int]:
        """The ``workspace`` and the ``room`` of one of them."""
        key = moving, outputs
        if key not in self._spaces:
            graph = self.side(moving, outputs).graph
            made = {node for node in graph.nodes if node.op == "call_function"}
            self._spaces[key] = _workspace(graph, made)
        return self._spaces[key]

    def price(self, moving: int, outputs: frozenset[int]) -> Price:
        """What one of them costs among many."""
        key = moving, outputs
        if key not in self._prices:
            graph = self.side(moving, outputs).graph
            (tangent, *_) = reversed(graph.find_nodes(op="placeholder"))
            self._prices[key] = product_price(graph, tangent)
        return self._prices[key]

    @cached_property
    def single(self) -> Program:
        """``apply``, for one v."""
        return single(self.apply)

    @cached_property
    def several(self) -> Program:
        """``apply`` for several v: (*kept, *V) -> H V, along a first axis."""
        return several(self.apply)

    @cached_property
    def order(self) -> list[int]:
        """The places of the parameters in the order in which the function uses them."""
        used = {node: place for place, node in enumerate(self.apply.graph.nodes)}
        tangents = _tangents(self.apply.graph, self.parameters)
        first = [min((used[user] for user in v.users), default=0) for v in tangents]
        return sorted(range(self.parameters), key=first.__getitem__)


def trace(
    product: Callable[[Tensors, Tensors, Tensors], Tensors],
    theta: Tensors,
    inputs: Tensors,
    by_autograd: bool = False,
) -> TracedProduct:
    """Trace (θ, inputs, v) -> H v for tensors of these shapes, and cut it by what depends on v.

    Nothing is computed: the trace runs on shapes alone, so that whatever would look at a value (a
    mask that selects) stops it instead of being frozen into the program. What a function takes from
    around it is given to it, and known, by `hesse.capture.closure_conversion`.

    Args:
        product: the product.
        theta: the parameters.
        inputs: what else it depends on.
        by_autograd: it is made by plain autograd, and is traced in two steps: a function with a
            backward of its own is made of operations before those that write are replaced, which
            goes by `torch.func`.

    Raises:
        Unsuitable: the program would not be a pure function of its arguments.
        Exception: whatever PyTorch raises for what it cannot trace or differentiate twice.
    """
    v = [torch.zeros_like(p) for p in theta]
    forms = [*theta, *inputs, *v]
    first, last = len(theta), len(theta) + len(inputs)

    def unfused(*given: Tensor) -> Tensors:
        with UnfusedNorms():
            return product(list(given[:first]), list(given[first:last]), list(given[last:]))

    @quiet()
    def of_forms() -> Program:
        made = record(unfused, forms, writes=True) if by_autograd else unfused
        return record(made, forms)

    # In a thread of its own: some exceptions inside nested differentiation leave PyTorch's
    # thread-local dispatch state broken, so that the next plain autograd.grad fails.
    with tracing():
        traced = _in_own_thread(of_forms)
    graph = traced.graph
    for node in graph.nodes:
        _require_pure(node)
    # So that what is used once has one user.
    drop_unused(graph)
    _, plain = _workspace(graph, {node for node in graph.nodes if node.op == "call_function"})
    simplify(graph, _tangents(graph, len(theta)))
    return _cut(traced, len(theta), plain)


def depends_on_values(error: Exception) -> bool:
    """Whether a trace failed for want of a value, which it has not however it is made."""
    return isinstance(error, NeedsValue)


def _in_own_thread(work: Callable[[], Any]) -> Any:
    begun, outcome = threading.Event(), Future[Any]()

    def run() -> None:
        begun.set()
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    require_free(_STACK, "the thread that a product is traced in")
    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
        return outcome.result()
    finally:
        # Whatever ends the wait, Ctrl-C in the middle of `start` too: what the thread has switched
        # off is on again once it is done.
        if begun.wait(0.1):
            thread.join()


def _require_pure(node: fx.Node) -> None:
    """Raise `Unsuitable` on draws, effects, and what depends on where a tensor lies in memory."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return
    if torch.Tag.nondeterministic_seeded in node.target.tags:
        raise Unsuitable(f"{node.target} draws at random")
    if node.target._schema.is_mutable:
        raise Unsuitable(f"{node.target} writes into its argument")
    if "as_strided" in str(node.target):
        raise Unsuitable(f"{node.target} looks at memory rather than at a tensor")


def _tangents(graph: fx.Graph, parameters: int) -> list[fx.Node]:
    return graph.find_nodes(op="placeholder")[-parameters:]


def _cut(traced: Program, parameters: int, plain: int) -> TracedProduct:
    """The program in two: what depends on v, and what that needs of the rest."""
    graph = traced.graph
    tangents = _tangents(graph, parameters)
    output = graph.output_node()
    linear = moving(graph, tangents)
    kept = [
        node
        for node in graph.nodes
        if node not in linear and any(user in linear or user is output for user in node.users)
    ]

    prepare, apply = fx.Graph(), fx.Graph()
    workspace, room = _workspace(graph, linear - set(tangents) - {output})
    before: dict[fx.Node, fx.Node] = {}
    # First in both programs, so that they are called with what they need and nothing else.
    after = {node: apply.placeholder(f"kept_{i}") for i, node in enumerate(kept)}
    after |= {node: apply.placeholder(f"v_{i}") for i, node in enumerate(tangents)}
    for node in graph.nodes:
        if node is output or node in tangents:
            continue
        graph_of, known = (apply, after) if node in linear else (prepare, before)
        known[node] = copied(graph_of, node, known.__getitem__)
    for node, copy in after.items():
        copy.meta = {"val": node.meta.get("val"), "moves": node in linear}
    prepare.output([before[node] for node in kept])
    apply.output(fx.map_arg(output.args[0], after.__getitem__))
    drop_unused(prepare)
    computed = {node for node in prepare.nodes if node.op == "call_function"}
    return TracedProduct(
        Program(prepare, traced.constants),
        Program(apply, traced.constants),
        parameters,
        workspace,
        room,
        bytes_of([node.meta.get("val") for node in kept]),
        _workspace(prepare, computed)[1],
        plain,
    )


def _workspace(graph: fx.Graph, nodes: set[fx.Node]) -> tuple[int, int]:
    """The most bytes that the values of some nodes take at once, when each is let go after its last
    use; and with what is laid out besides."""
    taken = [(node, node.all_input_nodes) for node in graph.nodes]
    last = {source: node for node, sources in taken for source in sources}
    alive = most = room = 0
    held: dict[fx.Node, int] = {}
    for node, sources in taken:
        if node in nodes:
            held[node] = 0 if node.target is operator.getitem else bytes_of(node.meta.get("val"))
            alive += held[node]
            most, room = max(most, alive), max(room, alive + _laid_out(node))
        alive -= sum(held.pop(source, 0) for source in sources if last[source] is node)
    return most, room


def _laid_out(node: fx.Node) -> int:
    """What a convolution, or a product of many matrices, takes beside what comes out, for one v
    among many: each may have a copy of what it is given."""
    target = node.target
    convolves = isinstance(target, torch._ops.OpOverload) and traits_of(target).convolves
    if not convolves and target not in _OF_MATRICES:
        return 0
    given = bytes_of([source.meta.get("val") for source in node.all_input_nodes])
    return given + (laid_out(target, values(node.args), node.meta["val"]) if convolves else 0)
