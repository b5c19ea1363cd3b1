"""Whether double backward of the user's function is its second derivative at all; only differences
of gradients can tell.

A custom `autograd.Function` whose backward uses a detached value, ``no_grad`` or NumPy has a right
gradient and a wrong derivative of it, and so have some operations of PyTorch. Every way of
automatic differentiation then agrees on a wrong H. So, once for a model and a loss, on few samples,
in float64 where the function can be cast,

    H v  is held against  (g(θ + h v) − g(θ − h v)) / 2h        for h from 1e-4 to 1e-9 of θ.

Where the two differ at every h there are three cases. If the difference quotients forward and
backward differ as well, θ lies at a kink (ReLU, max-pooling), and nothing can be told. If g·v is
not the slope of the value either, not even nearly, the user holds a value fixed (``detach``,
``no_grad``, a derivative of their own): double backward is then the definition, as long as it is
symmetric. Otherwise H v is wrong. Where the function can be cast, what it detaches or computes
under ``no_grad`` is seen and held fixed in the differences too (`hesse.certificates.widened`), so
that a wrong backward shows beside it.
"""

import dataclasses
import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hesse.certificates.drawing import drawn
from hesse.certificates.reference import ByParameter
from hesse.certificates.rounding import ROUNDINGS, noise
from hesse.certificates.widened import Widened
from hesse.data.batch import Batch, concatenate
from hesse.errors import HesseValueError, in_a_line, readable_bytes
from hesse.parameters import as_leaves
from hesse.process.memory import available_bytes

if TYPE_CHECKING:
    from hesse.cost import Cost

# Of all the data few are taken: every step takes two gradients, and there are up to six steps.
_SAMPLES = 32
_MOST_SIGNATURES = 8
# How often θ is held at once, in gradients, products and directions.
_COPIES = 16
# The note of a forward that rounds to half precision of its own accord.
AUTOCAST = "the forward runs under an autocast of its own, which stays as it is"
# By the dtype that could be had: the steps, the best first, and what a difference quotient of such
# steps may be off by.
_STEPS = {torch.float64: (1e-5, 1e-6, 1e-4, 1e-7, 1e-8, 1e-9), torch.float32: (3e-3, 1e-3, 1e-2)}
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 5e-2}
# Rounding of a value or a gradient, in units of its last place.
_LAST_PLACES = 30.0
# By how much more than the last place of J a part of its second derivatives is rounded that
# cancels.
_CANCELS = 1e4
# What is held fixed being seen, a gradient so much nearer to the slope than H v is to its
# differences is a gradient, computed approximately (by a solver that runs backward), and H v is
# wrong.
_APPROXIMATE = 1e-2
# Quotients forward and backward that are so much nearer to each other than to H v tell that H v is
# wrong, and not θ at a kink.
_NEARER = 0.1


@dataclass(frozen=True)
class Soundness:
    """Whether the second derivatives of a cost's function by PyTorch can be believed.

    Attributes:
        objection: why no second derivative of the function can be believed; ``None`` where nothing
            speaks against them.
        notes: for the plan and the certificate.
        lasting: whether it holds for other θ and data too.
        missing: whether PyTorch has no second derivatives of it, so that no way of computing them
            is worth trying.
    """

    objection: str | None = None
    notes: tuple[str, ...] = ()
    lasting: bool = True
    missing: bool = False


def soundness(cost: "Cost") -> Soundness:
    """Examine a cost's function, on samples of every signature of its batches, or find it
    examined."""
    verdicts = [
        _verdict(cost, signature)
        for signature in list(cost.signatures)[:_MOST_SIGNATURES] or [None]
    ]
    objection = next((each.objection for each in verdicts if each.objection is not None), None)
    notes = tuple(dict.fromkeys(note for each in verdicts for note in each.notes))
    return Soundness(objection, notes, missing=any(each.missing for each in verdicts))


def _verdict(cost: "Cost", signature: Hashable) -> Soundness:
    key = ("soundness", cost.layout, cost.dtype, signature)
    verdict = cost.captures.get(key)
    if verdict is None or not verdict.lasting:
        verdict = cost.captures[key] = _examined(cost, signature)
    return verdict


def _some_samples(cost: "Cost", signature: Hashable) -> tuple[Batch | None, Batch | None]:
    """A few samples from all over the batches of a signature, and the first such batch whole."""
    count = cost.signatures.get(signature)
    if count is None:
        return None, None
    every = max(1, -(-count // _SAMPLES))
    first, taken, seen = None, list[Batch](), 0
    for batch in cost.batches():
        if batch is None or batch.signature != signature:
            continue
        first = first or batch
        if batch.whole:
            return batch, batch
        start = -seen % every
        if start < batch.size:
            taken.append(batch.take(slice(start, None, every)))
        seen += batch.size
    return concatenate(taken), first


def require_sound(cost: "Cost") -> tuple[str, ...]:
    """The notes of a cost whose second derivatives can be believed.

    Raises:
        HesseValueError: they cannot; says which parameter, and both numbers.
    """
    verdict = soundness(cost)
    if verdict.objection is not None:
        raise HesseValueError(verdict.objection)
    return verdict.notes


def require_twice_differentiable(cost: "Cost") -> Soundness:
    """What was found of a cost that PyTorch can differentiate twice, rightly or wrongly.

    Raises:
        HesseValueError: it cannot; says which operation has no second derivative.
    """
    verdict = soundness(cost)
    if verdict.missing and verdict.objection is not None:
        raise HesseValueError(verdict.objection)
    return verdict


def _examined(cost: "Cost", signature: Hashable) -> Soundness:
    needed = _COPIES * torch.float64.itemsize * cost.layout.size
    if needed > available_bytes(cost.device) // 2:
        return Soundness(
            notes=(f"differences of gradients were not taken: they need {readable_bytes(needed)}",)
        )
    some, batch = _some_samples(cost, signature)
    attempts = [
        (torch.float64, True, some),
        (torch.float64, True, batch),
        (cost.dtype, False, some),
        (cost.dtype, False, batch),
    ]
    error: Exception | None = None
    missing: _NotTwice | None = None
    for dtype, cast, samples in attempts:
        try:
            function = _CostFunction(cost, samples, dtype, cast)
            return dataclasses.replace(
                _judged(function),
                lasting=function.mode is None or not function.mode.wrong_near_some_values,
            )
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except _NotTwice as reason:
            missing = reason
        # Of the user's code in another dtype, or on fewer samples than it was written for.
        except Exception as reason:
            error = reason
    if missing is not None:
        return Soundness(str(missing), missing=True)
    return Soundness(
        notes=(f"differences of gradients could not be taken ({type(error).__name__})",)
    )


class _NotTwice(Exception):
    """PyTorch says that it cannot differentiate the function twice."""


class _CostFunction:
    """J of some samples as a function of θ, in another dtype where it was cast."""

    def __init__(self, cost: "Cost", batch: Batch | None, dtype: torch.dtype, cast: bool) -> None:
        def wide(value: Any) -> Any:
            return (
                value.to(dtype)
                if isinstance(value, Tensor) and value.is_floating_point()
                else value
            )

        self._cost, self.dtype, self.mode = cost, dtype, Widened() if cast else None
        self.theta: ByParameter = {name: wide(value) for name, value in cost.parameters.items()}
        self._fixed = {name: wide(value) for name, value in cost.fixed.items()}
        self._batch = None if batch is None else batch.map(wide)
        # What this first evaluation detaches, `Widened` keeps for all later ones. A loss may
        # differentiate in its prediction, which then has to depend on something.
        value = self._value(as_leaves(self.theta)).detach()
        if value.dtype != dtype:
            raise TypeError(f"the value is {value.dtype}")

    def _value(self, theta: ByParameter) -> Tensor:
        tensors = {**self._fixed, **theta}
        if self.mode is None:
            return self._cost.batch_cost(tensors, self._batch) + self._cost.penalty_cost(theta)
        with self.mode.again():
            value = self._cost.batch_cost(tensors, self._batch) + self._cost.penalty_cost(theta)
        self.mode.finished()
        return value

    def value_and_gradient(self, theta: ByParameter) -> tuple[float, ByParameter]:
        """J and ∂J/∂θ."""
        leaves = as_leaves(theta)
        with self._cost.holding({**self._fixed, **leaves}):
            value = self._value(leaves)
            gradient = (
                torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
                if value.requires_grad
                else None
            )
        slopes = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
        return float(value.detach()), (
            slopes if gradient is None else dict(zip(leaves, gradient, strict=True))
        )

    def hessian_vector_products(self, *directions: ByParameter) -> list[ByParameter]:
        """H v by double backward."""
        leaves = as_leaves(self.theta)
        options: dict[str, Any] = {"materialize_grads": True, "retain_graph": True}
        with self._cost.holding({**self._fixed, **leaves}):
            value = self._value(leaves)
            zero = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
            if not value.requires_grad:
                return [zero for _ in directions]
            slopes = torch.autograd.grad(
                value, list(leaves.values()), create_graph=True, materialize_grads=True
            )
            kept = {
                name: slope
                for name, slope in zip(leaves, slopes, strict=True)
                if slope.requires_grad
            }
            if not kept:
                return [zero for _ in directions]
            try:
                rows = [
                    torch.autograd.grad(
                        list(kept.values()),
                        list(leaves.values()),
                        [v[name] for name in kept],
                        **options,
                    )
                    for v in directions
                ]
            except RuntimeError as error:
                raise _NotTwice(
                    f"cost: PyTorch cannot differentiate it twice ({in_a_line(error)}); is there an"
                    " operation in the model or the loss without a second derivative (a fused"
                    " kernel, a custom autograd Function that is once_differentiable)?"
                ) from error
        return [dict(zip(leaves, row, strict=True)) for row in rows]


def _judged(function: _CostFunction) -> Soundness:
    random = torch.Generator().manual_seed(0)
    v, u = (_direction(function.theta, random) for _ in range(2))
    value, gradient = function.value_and_gradient(function.theta)
    product, other = function.hessian_vector_products(v, u)
    notes = []
    if function.mode is not None:
        if function.mode.scaled:
            return Soundness(
                "cost: it looks up an embedding with scale_grad_by_freq=True, which divides"
                " gradients by how often a token occurs: they are the derivatives of no cost, and"
                " have no Hessian; set it to False"
            )
        if function.mode.autocast:
            notes.append(AUTOCAST)
    if function.dtype != torch.float64:
        share = _TOLERANCE[function.dtype]
        notes.append(
            "the function cannot be cast to float64: differences of gradients in float32 show no"
            f" error below {share:.0%}"
        )
    quotients = _Quotients(function, v, value, gradient)
    wrong, kinks = _differing(quotients, product)
    if function.mode is not None and function.mode.fixed:
        notes.append(
            "values that the forward detaches or computes without gradients are held fixed, as"
            " PyTorch does"
        )
    if not wrong and not kinks:
        return Soundness(notes=tuple(notes))
    gap, scale = abs(_dot(u, product) - _dot(v, other)), abs(_dot(u, product)) + abs(_dot(v, other))
    # u and v are of the size of θ, so that u·H v is of that of J where nothing cancels.
    rounding = torch.finfo(function.dtype).eps * (
        _LAST_PLACES * _norm(product) * _norm(u) + _CANCELS * abs(value)
    )
    skew = gap > 1e-3 * scale + rounding
    off_slope = quotients.off_slope(_dot(gradient, v)) if wrong else 0.0
    seen = function.mode is not None
    if off_slope and not (
        seen and off_slope <= _APPROXIMATE * max(_share(*pair) for pair in wrong.values())
    ):
        if skew:
            return Soundness(
                "cost: its second derivatives by PyTorch are not symmetric (u·H v and v·H u are"
                f" {_dot(u, product):.6g} and {_dot(v, other):.6g}), and its gradient is not the"
                " slope of its value: is there a custom autograd Function, or an operation, whose"
                " backward is not a derivative? It has no Hessian"
            )
        notes.append(
            "the gradient is not the slope of the value: what the forward gives a derivative of its"
            " own (a custom autograd Function) is taken by that, and what it detaches is held"
            " fixed, as PyTorch does"
        )
        return Soundness(notes=tuple(notes))
    if wrong:
        name, (ours, theirs) = next(iter(wrong.items()))
        return Soundness(
            "cost: PyTorch's second derivatives of it are wrong. Along a random v, an entry of H v"
            f" for {name!r} is {ours:.6g} by double backward and {theirs:.6g} by differences of"
            " gradients. Is there a custom autograd Function whose backward uses a detached value,"
            " no_grad or NumPy, or an operation whose second derivative PyTorch gets wrong? Write"
            " its backward in operations that can be differentiated"
        )
    if skew:
        return Soundness(
            "cost: its second derivatives by PyTorch are not symmetric at these parameters (u·H v"
            f" and v·H u are {_dot(u, product):.6g} and {_dot(v, other):.6g}), where its gradient"
            f" has a kink ({', '.join(kinks[:3])}): it has no Hessian there. Move the parameters"
        )
    notes.append(
        "a kink lies at these parameters, or too near"
        f" ({', '.join(kinks[:3])}{', ...' if len(kinks) > 3 else ''}): differences of gradients"
        " cannot tell whether double backward is right there"
    )
    return Soundness(notes=tuple(notes))


def _direction(theta: ByParameter, random: torch.Generator) -> ByParameter:
    """Normal numbers, each parameter's at the size of its entries."""
    sizes = {
        name: _norm({name: value}) / math.sqrt(max(1, value.numel()))
        for name, value in theta.items()
    }
    typical = max(sizes.values(), default=0.0) or 1.0
    return {name: drawn(value, random) * (sizes[name] or typical) for name, value in theta.items()}


class _Quotients:
    """Difference quotients of J and of its gradient along v, for one step after another."""

    def __init__(
        self, function: _CostFunction, v: ByParameter, value: float, gradient: ByParameter
    ) -> None:
        self._function, self._v, self._value, self.gradient = function, v, value, gradient
        self.steps = _STEPS[function.dtype]
        self.eps = torch.finfo(function.dtype).eps
        self._known: dict[float, tuple[float, ByParameter, float, ByParameter]] = {}

    def _at(self, h: float) -> tuple[float, ByParameter, float, ByParameter]:
        if h not in self._known:
            ends = [
                self._function.value_and_gradient(
                    {name: p + side * h * self._v[name] for name, p in self._function.theta.items()}
                )
                for side in (1, -1)
            ]
            self._known[h] = (*ends[0], *ends[1])
        return self._known[h]

    def size(self, name: str) -> float:
        """That of a parameter's part of the gradient, or of what it is made of where that cancels:
        J over its own size."""
        length = float(self._v[name].norm())
        return float(self.gradient[name].norm()) + (abs(self._value) / length if length else 0.0)

    @cached_property
    def _roundings(self) -> dict[str | None, float]:
        """What the steps within J, under ``None``, and within its gradient are rounded by, which
        may be all that they are."""

        def compute() -> list[Tensor]:
            value, slopes = self._function.value_and_gradient(self._function.theta)
            return [torch.tensor(value, dtype=torch.float64, device="cpu"), *slopes.values()]

        return dict(zip((None, *self._v), noise(compute), strict=True))

    def noise(self, h: float, name: str | None = None) -> float:
        """What those may change in a quotient, of J or of a part of its gradient."""
        return ROUNDINGS * self._roundings[name] / h

    def of_gradient(self, h: float, name: str) -> tuple[Tensor, Tensor]:
        """Central, and forward less backward."""
        _, plus, _, minus = self._at(h)
        middle = self.gradient[name]
        bend = (plus[name] - 2 * middle + minus[name]) / h
        return (plus[name] - minus[name]) / (2 * h), bend

    def off_slope(self, slope: float) -> float:
        """How far g·v is from the slope of J, relative; zero where no step tells them apart, as at
        a kink or a pole."""
        before = math.nan
        for h in self.steps:
            plus, _, minus, _ = self._at(h)
            central, bend = (plus - minus) / (2 * h), abs(plus - 2 * self._value + minus) / h
            rounding = _LAST_PLACES * self.eps * abs(self._value) / h
            gap = abs(central - slope)
            apart = (
                gap > _TOLERANCE[self._function.dtype] * max(abs(central), abs(slope)) + rounding
            )
            settled = apart and bend <= _NEARER * gap and abs(central - before) <= _NEARER * gap
            if settled and gap > self.noise(h):
                return gap / max(abs(central), abs(slope))
            before = central
        return 0.0


def _differing(
    quotients: _Quotients, product: ByParameter
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Parameters for which H v is wrong, with an entry of both, and those for which a kink keeps it
    from being told."""
    waiting, nearer = dict.fromkeys(product), dict[str, tuple[float, float]]()
    before: dict[str, Tensor] = {}
    tolerance = _TOLERANCE[quotients._function.dtype]
    for h in quotients.steps:
        differences = {name: quotients.of_gradient(h, name) for name in waiting}
        entry = max((_rms(part) for part in product.values()), default=0.0)
        for name, (central, bend) in differences.items():
            ours = product[name]
            if not bool(ours.isfinite().all()) or not bool(central.isfinite().all()):
                del waiting[name]  # nothing to compare; the certificate finds what is not finite
                continue
            size = math.sqrt(max(1, ours.numel()))
            rounding = _LAST_PLACES * quotients.eps * quotients.size(name) / h
            gap = float((central - ours).norm())
            scale = max(float(central.norm()), float(ours.norm()), tolerance * entry * size)
            if gap <= tolerance * scale + rounding or gap <= quotients.noise(h, name):
                del waiting[name]
                nearer.pop(name, None)
                continue
            settled = name in before and float((before[name] - central).norm()) <= _NEARER * gap
            before[name] = central
            if settled and float(bend.norm()) <= _NEARER * gap:
                place = int((central - ours).abs().flatten().argmax())
                nearer[name] = (float(ours.flatten()[place]), float(central.flatten()[place]))
        if not waiting:
            break
    return {name: nearer[name] for name in waiting if name in nearer}, [
        name for name in waiting if name not in nearer
    ]


def _share(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / max(abs(ours), abs(theirs), torch.finfo(torch.float64).tiny)


def _rms(part: Tensor) -> float:
    return float(part.norm()) / math.sqrt(max(1, part.numel()))


def _norm(parts: ByParameter) -> float:
    return math.sqrt(sum(float(part.double().square().sum()) for part in parts.values()))


def _dot(a: ByParameter, b: ByParameter) -> float:
    return sum(float((a[name].double() * b[name].double()).sum()) for name in a)
