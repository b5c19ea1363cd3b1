"""One term of the cost, linearised: v -> H v at a fixed θ, by the best method that works for it.

Three methods, in the order in which they are tried. In units of one gradient, a product after the
first takes:

    straight line        1.0 to 1.7    the product traced, once per shape of batch; see
                                       `hesse.capture.straight_line`
    autograd's graph     1.4 to 1.9    g = ∇J with its graph retained; H v = ∂(g·v)/∂θ, for H is
                                       symmetric
    nothing kept         about 3       the same, all of it again for every v

The bound, on dense layers: a gradient takes three matrix products per layer (two at the first) and
H v six (two at the first, where the input has no derivative). A straight line runs these and one or
two passes over each activation; autograd adds its bookkeeping, products in poor shapes for
convolutions, and parts of its double backward that do not depend on v.
"""

import dataclasses
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, final

import torch
from torch import Tensor

from hesse.capture.closure_conversion import closed_over
from hesse.capture.recording import Unsuitable
from hesse.capture.straight_line import TracedProduct, depends_on_values, trace
from hesse.cost import Cost
from hesse.curvatures.hessian import HESSIAN
from hesse.derivatives import Derivatives, DoubleBackward, ForwardOverReverse, Tensors
from hesse.errors import HesseValueError, in_a_line
from hesse.process.circumstances import is_interrupted, is_passing
from hesse.process.quiet import quiet
from hesse.products.agreement import difference
from hesse.products.linearized import (
    LinearizedTerm,
    Recomputed,
    RetainedGraph,
    bytes_of,
    lay,
    storages,
)
from hesse.products.replay import Replay
from hesse.products.slabs import HOLES_OF_A_SLAB, in_a_slab, slab_bytes
from hesse.products.terms import PredictionAndLoss, Term, TraceFailure, failed_methods

# A trace takes about a hundred products' time, so a loader whose batches have many shapes gets only
# the first few.
_MOST_SHAPES = 4
# Of two ways that were timed once, one that is slower by less may be as fast.
_CLEARLY = 1.15


@final
class StraightLine(LinearizedTerm):
    """Everything that does not depend on v is kept, and the rest is run as it was traced."""

    name = "straight line"

    def __init__(self, term: Term) -> None:
        self._program = _program_of(term)
        with torch.no_grad():
            self._kept: Tensors = self._program.prepare(*term.theta, *term.inputs)
        self.bytes = bytes_of(storages(self._kept), without=term.theta)
        # Whether several at once take longer than one after another; ``None`` until it is seen.
        self._slower: bool | None = None
        self._one_by_one, self._replayed = 0, None

    def product(self, v: Tensors) -> Tensors:
        with torch.no_grad():
            if self._is_worth_replaying(v):
                self._replayed = self._captured(v)
            return (self._replayed or self._started)(v)

    def _started(self, v: Tensors) -> Tensors:
        """Its operations started one by one."""
        self._one_by_one += 1
        return self._program.single(*self._kept, *v)

    def _is_worth_replaying(self, v: Tensors) -> bool:
        """Whether one product is followed by others, on a GPU that each leaves idle."""
        return (
            v[0].device.type == "cuda"
            and self._one_by_one == 1
            and self._program.workspace <= slab_bytes(v[0].device)
            and not torch.cuda.is_current_stream_capturing()
        )

    def _captured(self, v: Tensors) -> Replay | None:
        """The product, to be replayed; ``None`` where it waits for numbers, or comes out
        otherwise."""
        try:
            made = Replay(self._started, v)
            if difference(made(v), self._started(v), lambda: self._started(v)) is None:
                self.bytes += made.bytes
                return made
        except RuntimeError as error:
            if is_interrupted(error):
                raise
        return None

    def side(self, moving: int, outputs: frozenset[int]) -> Callable[[Tensor], Tensors]:
        """Of many unit vectors that move one parameter, (k, *its shape), the parts of H v of some,
        in their order, (k, *shape); worked on a slab at a time.

        Raises:
            RuntimeError: an operation has no rule for several at once.
        """
        program = self._program.rows(moving, outputs)
        workspace = self._program.space(moving, outputs)[0]

        def products(units: Tensor) -> Tensors:
            chunk = in_a_slab(workspace, units.device)
            ones = units.reshape(len(units), -1).argmax(1)
            with torch.no_grad(), quiet():
                parts = [
                    program(*self._kept, *piece)
                    for piece in zip(units.split(chunk), ones.split(chunk), strict=True)
                ]
            return [torch.cat(pieces) for pieces in zip(*parts, strict=True)]

        return products

    def products(self, columns: Tensors, memory: int, held: Tensors) -> None:
        count = len(columns[0])
        chunk = max(1, min(count, memory // (HOLES_OF_A_SLAB * max(1, self._program.room))))
        chunk = min(chunk, in_a_slab(self._program.workspace, columns[0].device))
        if chunk > 1 and not self._slower:
            try:
                with torch.no_grad(), quiet():
                    self._in_chunks(columns, chunk, held)
                return
            except RuntimeError as error:  # an operation without a rule for several at once
                if is_interrupted(error):
                    raise
        super().products(columns, memory, held)

    def _in_chunks(self, columns: Tensors, chunk: int, held: Tensors) -> None:
        """The products, some at once; those left one after another, where that is seen to be
        faster: how fast convolutions with a kernel for each v are no count of operations tells."""
        count, several = len(columns[0]), self._program.several
        timed = columns[0].device.type == "cpu"

        def seconds(low: int, high: int, together: bool) -> float:
            start, place = time.thread_time(), slice(low, high)
            piece, into = ([part[place] for part in parts] for parts in (columns, held))
            if together:
                lay(several(*self._kept, *piece), into, slice(None))
            else:
                super(StraightLine, self).products(piece, 0, into)
            return time.thread_time() - start

        low, number = 0, 0
        while low < count:
            if self._slower:
                seconds(low, count, False)
                return
            high = min(count, low + chunk)
            spent = seconds(low, high, True) / (high - low)
            low, number = high, number + 1
            # The first starts what the others find started.
            if timed and self._slower is None and number == 2 and count - low >= 2:
                alone = [seconds(low + k, low + k + 1, False) for k in range(2)][-1]
                low += 2
                self._slower = spent > _CLEARLY * alone


Linear = TypeVar("Linear", bound=LinearizedTerm)
METHODS: tuple[type[LinearizedTerm], ...] = (StraightLine, RetainedGraph, Recomputed)


def linearize(term: Term, trusted: set[Hashable]) -> tuple[LinearizedTerm, tuple[str, ...]]:
    """The first method that works for a term, and why the ones before it did not.

    Args:
        term: what to differentiate twice.
        trusted: the kinds of term whose products were tried already; a new kind is tried, and
            added.

    Raises:
        HesseValueError: PyTorch cannot differentiate the term twice by any of the methods.
    """
    notes: list[str] = []
    for method in METHODS:
        if method.name in term.failed:
            notes.append(f"{method.name} {term.failed[method.name]}")
            continue
        try:
            return _tried(method, term, trusted), tuple(notes)
        # Tracing runs the user's code and PyTorch's on tensors without values: anything may come.
        except Exception as error:
            if is_passing(error):
                raise
            notes.append(f"{method.name} is not possible: {_reason(error)}")
    raise HesseValueError(
        "cost: PyTorch cannot differentiate it twice. "
        + "; ".join(notes)
        + ". Is there an operation in the model or the "
        "loss without a right second derivative (a fused kernel, a custom autograd function)?"
    )


def traced_product(term: Term) -> TracedProduct | None:
    """The program of a term's product, nothing of it computed yet; ``None`` where it cannot be
    traced."""
    if StraightLine.name in term.failed:
        return None
    key = term.form
    try:
        given = _closure_converted(term)
        key = given.form
        return _program_of(given)
    except Exception as error:
        if is_passing(error):
            raise
        term.programs[key] = TraceFailure(_reason(error))
    return None


def straight_line(term: Term, trusted: set[Hashable]) -> StraightLine | None:
    """The product of a term traced; ``None`` where it cannot be."""
    if StraightLine.name in term.failed:
        return None
    try:
        return _tried(StraightLine, term, trusted)
    except Exception as error:
        if is_passing(error):
            raise
    return None


def _tried(method: type[Linear], term: Term, trusted: set[Hashable]) -> Linear:
    """A term by a method, tried where its kind was not."""
    given, key = term, term.form
    v, expected = list[Tensor](), None
    try:
        if method is StraightLine:
            given = _closure_converted(term)
            key = given.form
            _program_of(given)
            if key not in trusted:
                # Before what is kept is there: each takes as much as the other.
                v = _direction(term)
                expected = Recomputed(term).product(v)
        linear = method(given)
        if expected is not None:
            _require_agreement(linear, term, v, expected)
        # The other methods are held against nothing, but may end in an error at the first use.
        elif key not in trusted:
            linear.product([torch.zeros_like(p) for p in term.theta])
    except Exception as error:
        if method is StraightLine and not is_passing(error):
            # So that the trace, which is slow to fail, is not tried again.
            term.programs[key] = TraceFailure(_reason(error))
        raise
    trusted.add(key)
    return linear


def _closure_converted(term: Term) -> Term:
    """The term with what it closes over among its inputs, copied: as it was when the operator was
    made."""
    # It was seen to close over nothing, or has failed.
    if term.form in term.programs:
        return term
    theta = [p.detach().requires_grad_() for p in term.theta]
    with torch.inference_mode(False), torch.enable_grad(), term.holding(theta):
        met = closed_over(term.cost, theta, term.inputs)
    if not met.tensors and not met.reads:
        return term
    inputs = [*term.inputs, *(tensor.detach().clone() for tensor in met.tensors)]
    replayed: dict[str, Any] = {"cost": met.replayed(term.cost)}
    if term.curvature is not HESSIAN and term.parts is not None:
        replayed["parts"] = PredictionAndLoss(
            *map(met.replayed_in_part, (term.parts.predict, term.parts.judge))
        )
    return dataclasses.replace(term, inputs=inputs, key=(term.key, met.key), **replayed)


def _program_of(term: Term) -> TracedProduct:
    key = term.form
    program = term.programs.get(key)
    if isinstance(program, TraceFailure):
        raise Unsuitable(program.reason)
    if program is None:
        if (
            sum(isinstance(program, TracedProduct) for program in term.programs.values())
            >= _MOST_SHAPES
        ):
            raise Unsuitable(
                f"batches of {_MOST_SHAPES} other shapes were traced, and every shape takes a trace"
                " of its own"
            )

        program = term.programs[key] = _traced(term)
    return program


def _traced(term: Term) -> TracedProduct:
    """Forward over reverse, which has the shorter program; or double backward, which takes more:
    functions with a backward of their own, gradients that the model itself makes."""

    def traced(by: Derivatives, by_autograd: bool) -> TracedProduct:
        def product(theta: Tensors, inputs: Tensors, v: Tensors) -> Tensors:
            return dataclasses.replace(term, theta=theta, inputs=inputs).product(by)(v)

        return trace(product, term.theta, term.inputs, by_autograd)

    try:
        return traced(ForwardOverReverse(), False)
    except Exception as error:
        if is_passing(error) or depends_on_values(error):
            raise
        try:
            return traced(DoubleBackward(), True)
        except Exception as again:
            raise (again if is_passing(again) else error) from None


def _direction(term: Term) -> Tensors:
    random = torch.Generator().manual_seed(0)
    return [
        torch.randn(p.shape, generator=random, dtype=p.dtype, device="cpu").to(p.device)
        for p in term.theta
    ]


def _require_agreement(linear: LinearizedTerm, term: Term, v: Tensors, expected: Tensors) -> None:
    """Raise `Unsuitable` where a program does not agree with what it was traced from, on one batch
    and one v; also where no certificate is asked for."""
    reason = difference(linear.product(v), expected, lambda: Recomputed(term).product(v))
    if reason is not None:
        raise Unsuitable(reason)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, Unsuitable) else in_a_line(error)


def exclude_fastest(cost: Cost, methods: tuple[str, ...], reason: str) -> bool:
    """Try the fastest of these methods no more for this model and loss; False where no other is
    left."""
    left = [
        method.name
        for method in METHODS
        if method.name in methods and method.name not in failed_methods(cost)
    ]
    if not left or left[0] == METHODS[-1].name:
        return False
    failed_methods(cost)[left[0]] = reason
    return True
