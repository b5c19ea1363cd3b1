"""The Hessian of a small function: by each of torch's ways, in each circumstance, and by
differences of its gradient.

The differences are the reference. Where they cannot tell, at a kink, a pole or a point without a
gradient, nothing is judged.
"""

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from bench.operations import Problem

Function = Callable[[Tensor], Tensor]
STEPS = (1e-4, 1e-5, 1e-6, 1e-7)
# What differs by more than this, relative to the largest entry, is wrong; differences that are
# apart by more cannot tell.
TOLERANCE, REFERENCE = 1e-5, 1e-4
# So much of the gradient is rounding in a second derivative: less than a change of the gradient
# that a float32 would show.
ROUNDING = 1e-7
# A step of 1e-4 sees third derivatives: more than this between the two one-sided differences, and
# not shrinking, is a kink.
ONE_SIDED = 1e-3
SMALL = 0.1


def _units(u: Tensor) -> Tensor:
    return torch.eye(len(u), dtype=u.dtype)


def _double_backward(f: Function, u: Tensor) -> Tensor:
    u = u.detach().requires_grad_()
    (g,) = torch.autograd.grad(f(u), u, create_graph=True)
    return torch.stack([_again(entry, u) for entry in g])


def _double_backward_at_once(f: Function, u: Tensor) -> Tensor:
    u = u.detach().requires_grad_()
    (g,) = torch.autograd.grad(f(u), u, create_graph=True)
    if not g.requires_grad:
        return torch.zeros(len(u), len(u), dtype=u.dtype)
    return torch.autograd.grad(g, u, _units(u), is_grads_batched=True, materialize_grads=True)[0]


def _again(entry: Tensor, u: Tensor) -> Tensor:
    """The gradient of a first derivative; one that does not depend on u has none."""
    return (
        torch.autograd.grad(entry, u, retain_graph=True, materialize_grads=True)[0]
        if entry.requires_grad
        else torch.zeros_like(u)
    )


def _reverse_over_reverse(f: Function, u: Tensor) -> Tensor:
    _, pull = vjp(grad(f), u)
    return torch.stack([pull(unit)[0] for unit in _units(u)])


def _forward_over_reverse(f: Function, u: Tensor) -> Tensor:
    return torch.stack([jvp(grad(f), (u,), (unit,))[1] for unit in _units(u)]).mT


def _forward_over_reverse_at_once(f: Function, u: Tensor) -> Tensor:
    return vmap(lambda unit: jvp(grad(f), (u,), (unit,))[1])(_units(u)).mT


def _reverse_over_forward(f: Function, u: Tensor) -> Tensor:
    return torch.stack(
        [grad(lambda v, unit=unit: jvp(f, (v,), (unit,))[1])(u) for unit in _units(u)]
    ).mT


def _reverse_over_forward_at_once(f: Function, u: Tensor) -> Tensor:
    return vmap(lambda unit: grad(lambda v: jvp(f, (v,), (unit,))[1])(u))(_units(u)).mT


@dataclass(frozen=True)
class Way:
    """One way to a Hessian: the row that it belongs to, whether vmap goes over the columns, and how
    it runs."""

    name: str
    columns_at_once: bool
    run: Callable[[Function, Tensor], Tensor]
    functional: bool = True


WAYS = (
    Way("double backward", False, _double_backward, functional=False),
    Way("double backward", True, _double_backward_at_once, functional=False),
    Way("reverse over reverse", False, _reverse_over_reverse),
    Way("reverse over reverse", True, lambda f, u: jacrev(grad(f))(u)),
    Way("forward over reverse", False, _forward_over_reverse),
    Way("forward over reverse", True, _forward_over_reverse_at_once),
    Way("reverse over forward", False, _reverse_over_forward),
    Way("reverse over forward", True, _reverse_over_forward_at_once),
    Way("torch.func.hessian", True, lambda f, u: hessian(f)(u)),
    Way("jacfwd(jacfwd)", True, lambda f, u: jacfwd(jacfwd(f))(u)),
)
NAMES = tuple(dict.fromkeys(way.name for way in WAYS))


@dataclass(frozen=True)
class Circumstance:
    """Whether gradients are switched off around the call, and whether a vmap over samples is."""

    no_grad: bool
    batched: bool


CIRCUMSTANCES = tuple(
    Circumstance(no_grad, batched) for no_grad in (False, True) for batched in (False, True)
)


def by_torch(
    problem: Problem, samples: Tensor, way: Way, circumstance: Circumstance
) -> Tensor | None:
    """The Hessians at the samples, (n, k, k), one sample where there is no batch; None where the
    way has no such circumstance.

    Raises:
        Exception: whatever torch raises; ValueError where what comes back is no Hessian by its
            shape.
    """
    size = problem.embedding.shape[1]
    start = torch.zeros(len(samples), size, dtype=torch.float64)
    if circumstance.no_grad and not way.functional:
        return None
    with torch.no_grad() if circumstance.no_grad else contextlib.nullcontext():
        if not circumstance.batched:
            got = way.run(lambda v: problem.shifted(samples[0], v), start[0])[None]
        elif way.functional:
            got = vmap(lambda z, u: way.run(lambda v: problem.shifted(z, v), u))(samples, start)
        else:
            got = _blocks(problem, samples, start, at_once=way.columns_at_once)
    expected = (len(samples) if circumstance.batched else 1, size, size)
    if got.shape != expected:
        raise ValueError(f"a Hessian of shape {tuple(got.shape)} instead of {expected}")
    return got


def _blocks(problem: Problem, samples: Tensor, start: Tensor, *, at_once: bool) -> Tensor:
    """Double backward through the function mapped over the samples: row j of every sample's Hessian
    together."""
    u = start.requires_grad_()
    (g,) = torch.autograd.grad(vmap(problem.shifted)(samples, u).sum(), u, create_graph=True)
    if not g.requires_grad:
        return torch.zeros(*u.shape, u.shape[1], dtype=u.dtype)
    if not at_once:
        return torch.stack([_again(column.sum(), u) for column in g.unbind(1)], dim=1)
    units = torch.eye(u.shape[1], dtype=u.dtype)[:, None, :].expand(-1, len(u), -1)
    return torch.autograd.grad(g, u, units, is_grads_batched=True, materialize_grads=True)[
        0
    ].transpose(0, 1)


@dataclass(frozen=True)
class Reference:
    """What differences say: the Hessian, how far it may be off, and the gradient's largest entry;
    or why they cannot tell."""

    hessian: Tensor
    error: float = 0.0
    slope: float = 0.0
    doubt: str = ""

    @property
    def scale(self) -> float:
        return float(self.hessian.abs().max())

    def judge(self, got: Tensor) -> "Deviation | None":
        """How a Hessian deviates; None where it agrees."""
        off = (got.detach() - self.hessian).abs().nan_to_num(torch.inf, torch.inf, torch.inf)
        if float(off.max()) <= TOLERANCE * self.scale + 20 * self.error + ROUNDING * self.slope:
            return None
        row, column = divmod(int(off.argmax()), off.shape[1])
        expected = float(self.hessian[row, column])
        return Deviation(
            expected if abs(expected) > 20 * self.error else 0.0,
            float(got[row, column]),
            self.scale,
        )


@dataclass(frozen=True)
class Deviation:
    """The entry that is furthest off: what it is, what was got, and the largest entry of the
    Hessian."""

    expected: float
    got: float
    scale: float

    @property
    def size(self) -> float:
        """How far off, relative to the largest entry; infinite for NaN and where there should be
        nothing."""
        off = abs(self.got - self.expected)
        return off / self.scale if off < float("inf") and self.scale else float("inf")

    def __str__(self) -> str:
        digits = 3 if self.size > 0.01 else 8
        return f"{self.got:.{digits}g} for {self.expected:.{digits}g}"


@dataclass(frozen=True)
class _Estimate:
    """Central differences of the gradient with one step, a row for each direction; how far the two
    one-sided ones are apart."""

    step: float
    matrix: Tensor
    sides: float


def by_differences(problem: Problem, z: Tensor) -> Reference:
    """The Hessian at z by central differences of the gradient, which is itself held against
    differences of the value.

    Steps go from 1e-4 to 1e-7, for small z also in proportion to it. The two consecutive ones that
    agree best are taken, and how far they are apart is the error.
    """

    def gradient(point: Tensor) -> Tensor:
        u = torch.zeros(problem.embedding.shape[1], dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(problem.shifted(point, u), u, materialize_grads=True)[0]

    nothing = torch.zeros(0)
    if not torch.isfinite(problem.value(z)):
        return Reference(nothing, doubt="the value is not finite")
    middle = gradient(z)
    if not torch.isfinite(middle).all():
        return Reference(nothing, doubt="the gradient is not finite")
    slope = float(middle.abs().max())
    best: list[tuple[float, _Estimate, _Estimate]] = []
    for unit in _units_of_length(z):
        estimates = [
            _estimate(gradient, z, middle, problem.embedding, step * unit) for step in STEPS
        ]
        pairs: list[tuple[float, _Estimate, _Estimate]] = []
        for wide, narrow in itertools.pairwise(estimates):
            # Differences that rounding has made 0 agree as well as can be: what it may hide counts.
            apart = float((wide.matrix - narrow.matrix).abs().max()) + _rounding(slope, narrow.step)
            pairs.append((apart if apart == apart else float("inf"), wide, narrow))
        best.append(min(pairs, key=lambda pair: pair[0]))
    error, wide, narrow = min(best, key=lambda pair: pair[0])
    if error == float("inf"):
        return Reference(nothing, doubt="not finite nearby")
    reference = Reference(narrow.matrix, error, slope)
    doubt = (
        _lengths_doubt(best)
        or _doubt(problem, gradient, z, reference, wide, narrow)
        or _gradient_doubt(problem, z, middle)
    )
    return replace(reference, doubt=doubt)


def _units_of_length(z: Tensor) -> list[float]:
    """What steps are measured in: 1, and the size of z where that is small."""
    size = float(z.abs().max())
    return [1.0, size] if 0.0 < size < SMALL else [1.0]


def _estimate(
    gradient: Function, z: Tensor, middle: Tensor, embedding: Tensor, step: float
) -> _Estimate:
    rows, sides = [], 0.0
    for direction in embedding.T:
        ahead, behind = gradient(z + step * direction), gradient(z - step * direction)
        rows.append((ahead - behind) / (2 * step))
        sides = max(sides, float((ahead + behind - 2 * middle).abs().max()) / step)
    return _Estimate(step, torch.stack(rows), sides)


def _rounding(size: float, step: float) -> float:
    """How much rounding may show in a difference of numbers of a size."""
    return 4 * torch.finfo(torch.float64).eps * size / step


def _lengths_doubt(best: list[tuple[float, _Estimate, _Estimate]]) -> str:
    """Why steps in proportion to a small z and steps that are not tell different things, each sure
    of its own, or nothing.

    Within 1e-8 of 0 PyTorch's gradient of sinc is made of rounding, and differences of it settle on
    a slope of that.
    """
    if len(best) == 1:
        return ""
    (error, _, here), (other, _, there) = best
    scale = max(float(here.matrix.abs().max()), float(there.matrix.abs().max()))
    apart = float((here.matrix - there.matrix).abs().max())
    sure = max(error, other) <= REFERENCE * scale
    return (
        "long steps and short ones do not agree"
        if sure and apart > REFERENCE * scale + 20 * (error + other)
        else ""
    )


def _doubt(
    problem: Problem,
    gradient: Function,
    z: Tensor,
    found: Reference,
    wide: _Estimate,
    narrow: _Estimate,
) -> str:
    """Why differences of the gradient are not a Hessian, or nothing."""
    scale, noise = found.scale, found.error
    if found.error > REFERENCE * scale + ROUNDING * found.slope:
        return "differences do not settle"
    if narrow.sides > ONE_SIDED * scale + 20 * noise and narrow.sides > 0.3 * wide.sides:
        return "a kink: one-sided differences are apart"
    if float((found.hessian - found.hessian.T).abs().max()) > REFERENCE * scale + 20 * noise:
        return "differences are not symmetric"
    v = torch.randn(
        len(found.hessian), dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    shift = narrow.step * (problem.embedding @ v)
    slope = (gradient(z + shift) - gradient(z - shift)) / (2 * narrow.step)
    if not float((slope - found.hessian @ v).abs().max()) <= ONE_SIDED * scale + 20 * noise:
        return "a kink: differences are not linear in the direction"
    return ""


def _gradient_doubt(problem: Problem, z: Tensor, middle: Tensor) -> str:
    """Why the gradient is not the slope of the value, or nothing."""
    size, slope, best = float(problem.value(z).abs()), float(middle.abs().max()), float("inf")
    for step in (step * unit for unit in _units_of_length(z) for step in STEPS):
        ends = [
            (problem.value(z + step * way), problem.value(z - step * way))
            for way in problem.embedding.T
        ]
        slopes = torch.stack([(ahead - behind) / (2 * step) for ahead, behind in ends])
        off = float((slopes - middle).abs().max())
        best = min(
            best,
            off
            - 10 * _rounding(size, step)
            - REFERENCE * max(slope, float(slopes.abs().max()))
            - ROUNDING,
        )
    return "the gradient is not the slope of the value" if best > 0 else ""
