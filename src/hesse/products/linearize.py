"""One term of the cost, linearised: v -> H v at a fixed θ, by the best method that works for it.

Three methods, in the order in which they are tried. In units of one gradient, a product after the first takes:

    straight line        1.0 to 1.7    traced once per shape of batch; see `hesse.products.straight`
    autograd's graph     1.4 to 1.9    g = ∇J with its graph kept; H v = ∂(g·v)/∂θ, for H is symmetric
    nothing kept         about 3       the same, all of it again for every v

The bound, on dense layers: a gradient takes three matrix products per layer (two at the first) and H v six (two at the
first, where the input has no derivative). A straight line runs these and one or two passes over each activation; autograd
adds its bookkeeping, products in poor shapes for convolutions, and parts of its double backward that do not depend on v.
"""

import abc
import dataclasses
import weakref
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.certificates.rounding import ROUNDINGS, noise
from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.errors import HesseValueError, in_a_line
from hesse.process.quiet import quiet
from hesse.products.straight import Program, Tensors, Unsuitable, trace
from hesse.products.surroundings import watched

# A trace takes about a hundred products' time, so a loader whose batches have many shapes gets only the first few.
_MOST_SHAPES = 4
# More columns at once than a processor's caches hold take longer, not less.
_CACHES = 32 * 1024**2
# Of the largest entry of H v: what regrouping sums may change.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-9}

# The programs of a cost, by the shapes they were traced for; a text where the trace failed and why.
Programs = dict[Hashable, Program | str]
_PROGRAMS: "weakref.WeakKeyDictionary[Callable[..., Tensor], Programs]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Term:
    """One summand of J, as a function of θ and of the tensors of one batch.

    Attributes:
        cost: (θ, inputs) -> the summand.
        theta: the parameters, in layout order.
        inputs: the tensors of the batch.
        key: what else the function depends on; terms of equal key and shapes share a program.
        programs: the programs known already.
        holding: keeps a θ in the private modules while something is differentiated.
        failed: the methods that are not to be tried, and why.
    """

    cost: Callable[[Tensors, Tensors], Tensor]
    theta: Tensors
    inputs: Tensors
    key: Hashable = None
    programs: Programs = field(default_factory=dict)
    holding: Callable[[Tensors], AbstractContextManager[Any]] = lambda theta: nullcontext()
    failed: dict[str, str] = field(default_factory=dict)


def batch_term(cost: Cost, batch: Batch | None) -> Term:
    """What one batch adds to J. Frozen parameters and buffers are inputs, so that a trace knows nothing of their values."""
    leaves, spec = pytree.tree_flatten(None if batch is None else (batch.x, batch.y))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    names = (*cost.layout.names, *cost.fixed)

    def value(theta: Tensors, inputs: Tensors) -> Tensor:
        filled = list(others)
        for place, tensor in zip(places, inputs, strict=False):
            filled[place] = tensor
        pair = pytree.tree_unflatten(filled, spec)
        tensors = dict(zip(names, (*theta, *inputs[len(places) :]), strict=True))
        return cost.batch_cost(tensors, None if batch is None else dataclasses.replace(batch, x=pair[0], y=pair[1]))

    inputs = [tensor.detach() for tensor in (*(leaves[place] for place in places), *cost.fixed.values())]
    key = (cost.scale, names, repr(spec), repr(others))
    programs = _PROGRAMS.setdefault(cost.total, {})
    return Term(value, list(cost.parameters.values()), inputs, key, programs, _holding(cost), failed_methods(cost))


def _holding(cost: Cost) -> Callable[[Tensors], AbstractContextManager[Any]]:
    return lambda theta: cost.holding(dict(zip(cost.layout.names, theta, strict=True)))


def failed_methods(cost: Cost) -> dict[str, str]:
    """The methods that were seen to give wrong products for this model and loss, and how."""
    return cost.captures.setdefault("failed methods", {})


def penalty_term(cost: Cost) -> Term:
    """The penalty, where it is a function."""
    return Term(
        lambda theta, _: cost.penalty_cost(dict(zip(cost.layout.names, theta, strict=True))), list(cost.parameters.values()), []
    )


class Linear(abc.ABC):
    """v -> H v of one term.

    Attributes:
        name: the method.
        bytes: what is held for it, beyond θ.
    """

    name: ClassVar[str]
    bytes: int = 0

    @abc.abstractmethod
    def __init__(self, term: Term) -> None: ...

    @abc.abstractmethod
    def product(self, v: Tensors) -> Tensors:
        """H v: v and the result as one tensor per parameter. The result may share memory with what is kept."""

    def products(self, columns: Tensors, memory: int) -> Tensors:
        """H V for directions stacked along the first axis; one by one where there is no better way."""
        each = [self.product([part[k] for part in columns]) for k in range(len(columns[0]))]
        return [torch.stack(parts) for parts in zip(*each, strict=True)]


@final
class StraightLine(Linear):
    """Everything that does not depend on v is kept, and the rest is run as it was traced."""

    name = "straight line"

    def __init__(self, term: Term) -> None:
        self._program = _program_of(term)
        with torch.no_grad():
            self._kept: Tensors = self._program.prepare(*term.theta, *term.inputs)
        self.bytes = _bytes(_storages(self._kept), without=term.theta)

    def product(self, v: Tensors) -> Tensors:
        with torch.no_grad():
            return self._program.apply(*self._kept, *v)

    def products(self, columns: Tensors, memory: int) -> Tensors:
        count = len(columns[0])
        if columns[0].device.type == "cpu":
            memory = min(memory, _CACHES)
        chunk = max(1, min(count, memory // max(1, self._program.workspace)))
        if chunk == 1:
            return super().products(columns, memory)
        several = torch.func.vmap(lambda *v: self._program.apply(*self._kept, *v))
        try:
            with torch.no_grad(), quiet():
                parts = [several(*(part[at : at + chunk] for part in columns)) for at in range(0, count, chunk)]
        except RuntimeError:  # an operation without a rule for several at once
            return super().products(columns, memory)
        return [torch.cat(pieces) for pieces in zip(*parts, strict=True)]


@final
class GraphKept(Linear):
    """The gradient with autograd's graph. What a forward that differentiates by `torch.func` keeps cannot be counted."""

    name = "autograd's graph"

    def __init__(self, term: Term) -> None:
        held: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            # Neither the tensor nor a list of them: the graph would hold itself through this function, for ever.
            held.update(_storages([tensor]))
            return tensor.detach()

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            self._gradient = _Gradient(term)
        self.bytes = _bytes(held, without=term.theta)

    def product(self, v: Tensors) -> Tensors:
        return self._gradient.product(v)


@final
class NothingKept(Linear):
    """Double backward, anew for every v."""

    name = "nothing kept"

    def __init__(self, term: Term) -> None:
        self._term = term

    def product(self, v: Tensors) -> Tensors:
        # Not forward over reverse, which carries a tangent through what was computed without gradients.
        return [part.detach() for part in _Gradient(self._term).product(v)]


class _Gradient:
    """∇J of a term as autograd's graph."""

    def __init__(self, term: Term) -> None:
        self._theta = theta = [p.detach().requires_grad_() for p in term.theta]
        self._holding = term.holding
        with torch.inference_mode(False), torch.enable_grad(), term.holding(theta):
            value = term.cost(theta, term.inputs)
            # Never backward(create_graph=True): it ties .grad to the graph in a cycle.
            gradient = torch.autograd.grad(value, theta, create_graph=True, allow_unused=True) if value.requires_grad else ()
        # Where a parameter enters linearly, or not at all, its gradient does not depend on θ.
        self._parts = {i: g for i, g in enumerate(gradient) if g is not None and g.requires_grad}

    def product(self, v: Tensors) -> Tensors:
        """H v, the gradient of g·v."""
        if not self._parts:
            return [torch.zeros_like(p) for p in self._theta]
        parts, directions = list(self._parts.values()), [v[i] for i in self._parts]
        kept: dict[str, Any] = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        with self._holding(self._theta):
            return list(torch.autograd.grad(parts, self._theta, directions, **kept))


METHODS: tuple[type[Linear], ...] = (StraightLine, GraphKept, NothingKept)


def linearize(term: Term, trusted: set[Hashable]) -> tuple[Linear, tuple[str, ...]]:
    """The first method that works for a term, and why the ones before it did not.

    Args:
        term: what to differentiate twice.
        trusted: the kinds of term whose products were tried already; a new kind is tried, and added.

    Raises:
        HesseValueError: PyTorch cannot differentiate the term twice by any of the methods.
    """
    notes: list[str] = []
    for method in METHODS:
        if method.name in term.failed:
            notes.append(f"{method.name} {term.failed[method.name]}")
            continue
        given, key = term, _key(term)
        try:
            if method is StraightLine:
                given = _closed(term)
                key = _key(given)
            linear = method(given)
            if isinstance(linear, StraightLine) and key not in trusted:
                _check(linear, term)
            elif key not in trusted:
                linear.product([torch.zeros_like(p) for p in term.theta])
        except (MemoryError, torch.OutOfMemoryError):
            raise
        # Tracing runs the user's code and PyTorch's on tensors without values: anything may come.
        except Exception as error:
            notes.append(f"{method.name} is not possible: {_reason(error)}")
            if method is StraightLine:
                term.programs[key] = _reason(error)
        else:
            trusted.add(key)
            return linear, tuple(notes)
    raise HesseValueError(
        "cost: PyTorch cannot differentiate it twice. " + "; ".join(notes) + ". Is there an operation in the model or the "
        "loss without a right second derivative (a fused kernel, a custom autograd function)?"
    )


def _closed(term: Term) -> Term:
    """The term with what it takes from around it among its inputs, copied: they are as they were when the operator was made."""
    if _key(term) in term.programs:
        return term  # it was seen to take nothing, or has failed
    theta = [p.detach().requires_grad_() for p in term.theta]
    with torch.inference_mode(False), torch.enable_grad(), term.holding(theta):
        met = watched(term.cost, theta, term.inputs)
    if not met.tensors and not met.reads:
        return term
    inputs = [*term.inputs, *(tensor.detach().clone() for tensor in met.tensors)]
    return dataclasses.replace(term, cost=met.replayed(term.cost), inputs=inputs, key=(term.key, met.key))


def _program_of(term: Term) -> Program:
    key = _key(term)
    found = term.programs.get(key)
    if isinstance(found, str):
        raise Unsuitable(found)
    if found is None:
        if sum(isinstance(program, Program) for program in term.programs.values()) >= _MOST_SHAPES:
            raise Unsuitable(f"batches of {_MOST_SHAPES} other shapes were traced, and every shape takes a trace of its own")
        found = term.programs[key] = trace(term.cost, term.theta, term.inputs)
    return found


def _key(term: Term) -> Hashable:
    return (term.key, *((tuple(t.shape), t.stride(), t.dtype, t.device) for t in (*term.theta, *term.inputs)))


def _check(linear: StraightLine, term: Term) -> None:
    """A program agrees with what it was traced from, here on one batch and one v, also where no certificate is asked for."""
    random = torch.Generator().manual_seed(0)
    v = [torch.randn(p.shape, generator=random, dtype=p.dtype, device="cpu").to(p.device) for p in term.theta]
    tolerance = max(_TOLERANCE[p.dtype] for p in term.theta)
    found, expected = linear.product(v), NothingKept(term).product(v)
    largest = max((float(e.abs().max()) for e in expected if e.numel()), default=0.0)
    limits = [tolerance * largest for _ in expected]
    if not all(map(_within, found, expected, limits)):
        rounding = noise(lambda: NothingKept(term).product(v))
        limits = [limit + ROUNDINGS * each for limit, each in zip(limits, rounding, strict=True)]
    for got, e, limit in zip(found, expected, limits, strict=True):
        if not _within(got, e, limit):
            error = float((got - e).abs().max())
            raise Unsuitable(f"a product differs from ∂(∇J·v)/∂θ by {error:.2g} where that is up to {largest:.2g}")


def _within(found: Tensor, expected: Tensor, limit: float) -> bool:
    return torch.allclose(found, expected, rtol=0.0, atol=limit, equal_nan=True)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, Unsuitable) else in_a_line(error)


def _storages(tensors: Tensors) -> dict[int, int]:
    """Address and bytes of what some tensors lie in; views share one, and zeros that PyTorch keeps without memory have none."""
    held = [tensor.untyped_storage() for tensor in tensors if not tensor._is_zerotensor()]
    return {storage.data_ptr(): storage.nbytes() for storage in held}


def _bytes(storages: dict[int, int], *, without: Tensors) -> int:
    """What some storages take together, those of θ left out."""
    return sum(storages[address] for address in storages.keys() - _storages(without))


def leave(cost: Cost, methods: tuple[str, ...], reason: str) -> bool:
    """Try the fastest of these methods no more for this model and loss; False where there is no other left."""
    left = [method.name for method in METHODS if method.name in methods and method.name not in failed_methods(cost)]
    if not left or left[0] == METHODS[-1].name:
        return False
    failed_methods(cost)[left[0]] = reason
    return True
