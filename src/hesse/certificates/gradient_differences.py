"""J of a few samples as a function of θ, and differences of its gradients, which tell H v without
a second derivative."""

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hesse.certificates.drawing import drawn
from hesse.certificates.reference import ByParameter
from hesse.certificates.rounding import ROUNDINGS, noise
from hesse.certificates.widened import Widened
from hesse.data.batch import Batch
from hesse.errors import in_a_line
from hesse.parameters import as_leaves
from hesse.process.circumstances import is_passing

if TYPE_CHECKING:
    from hesse.cost import Cost

# By the dtype that could be had: the steps, the best first, and what a difference quotient of such
# steps may be off by.
_STEPS = {torch.float64: (1e-5, 1e-6, 1e-4, 1e-7, 1e-8, 1e-9), torch.float32: (3e-3, 1e-3, 1e-2)}
TOLERANCE = {torch.float64: 1e-4, torch.float32: 5e-2}
# Rounding of a value or a gradient, in units of its last place.
LAST_PLACES = 30.0
# Quotients forward and backward that are so much nearer to each other than to H v tell that H v is
# wrong, and not θ at a kink.
_NEARER = 0.1


class NotTwiceDifferentiable(Exception):
    """PyTorch says that it cannot differentiate the function twice."""


class CostFunction:
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
                if is_passing(error):
                    raise
                raise NotTwiceDifferentiable(
                    f"cost: PyTorch cannot differentiate it twice ({in_a_line(error)}); is there an"
                    " operation in the model or the loss without a second derivative (a fused"
                    " kernel, a custom autograd Function that is once_differentiable)?"
                ) from error
        return [dict(zip(leaves, row, strict=True)) for row in rows]


def direction(theta: ByParameter, random: torch.Generator) -> ByParameter:
    """Normal numbers, each parameter's at the size of its entries."""
    sizes = {
        name: norm({name: value}) / math.sqrt(max(1, value.numel()))
        for name, value in theta.items()
    }
    typical = max(sizes.values(), default=0.0) or 1.0
    return {name: drawn(value, random) * (sizes[name] or typical) for name, value in theta.items()}


class Quotients:
    """Difference quotients of J and of its gradient along v, for one step after another."""

    def __init__(
        self, function: CostFunction, v: ByParameter, value: float, gradient: ByParameter
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
            rounding = LAST_PLACES * self.eps * abs(self._value) / h
            gap = abs(central - slope)
            apart = gap > TOLERANCE[self._function.dtype] * max(abs(central), abs(slope)) + rounding
            settled = apart and bend <= _NEARER * gap and abs(central - before) <= _NEARER * gap
            if settled and gap > self.noise(h):
                return gap / max(abs(central), abs(slope))
            before = central
        return 0.0


def differing(
    quotients: Quotients, product: ByParameter
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Parameters for which H v is wrong, with an entry of both, and those for which a kink keeps it
    from being told."""
    waiting, nearer = dict.fromkeys(product), dict[str, tuple[float, float]]()
    before: dict[str, Tensor] = {}
    tolerance = TOLERANCE[quotients._function.dtype]
    for h in quotients.steps:
        differences = {name: quotients.of_gradient(h, name) for name in waiting}
        entry = max((_rms(part) for part in product.values()), default=0.0)
        for name, (central, bend) in differences.items():
            ours = product[name]
            if not bool(ours.isfinite().all()) or not bool(central.isfinite().all()):
                del waiting[name]  # nothing to compare; the certificate finds what is not finite
                continue
            size = math.sqrt(max(1, ours.numel()))
            rounding = LAST_PLACES * quotients.eps * quotients.size(name) / h
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


def _rms(part: Tensor) -> float:
    return float(part.norm()) / math.sqrt(max(1, part.numel()))


def norm(parts: ByParameter) -> float:
    """The length over all parameters."""
    return math.sqrt(sum(float(part.double().square().sum()) for part in parts.values()))


def dot(a: ByParameter, b: ByParameter) -> float:
    """a·b over all parameters."""
    return sum(float((a[name].double() * b[name].double()).sum()) for name in a)
