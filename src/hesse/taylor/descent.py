"""The iterations of `hesse.minimize`: steps within a radius that is fitted to how well the model
foretold the last one."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hesse.process.quiet import quiet
from hesse.taylor.points import Evaluator, HessianNotFinite, Iterate, Point
from hesse.taylor.proposals import HessianNotDefinite, Method
from hesse.taylor.subproblem.cholesky import Guess

# Of the ratio of the actual to the predicted decrease: a step is taken above the first; the radius
# shrinks below the second and grows above the third. As SciPy has them: Nocedal and Wright,
# Numerical Optimization (2006), algorithm 4.1.
_ACCEPT, _POOR, _GOOD = 0.15, 0.25, 0.75
_SHRINK, _GROW = 0.25, 2.0
# How λ falls where the radius grows; it depends on the cost, this is what networks were seen to do.
_RELAX = 0.4
# Of |J|, in units of eps: differences of the cost that rounding could have made.
_NOISE = 10


class Status(IntEnum):
    """The ``status`` of a result: the gradient is small enough, or why the run ended before.

    Attributes:
        REACHED: no entry of the gradient is larger than the tolerance.
        ITERATIONS: as many iterations as were asked for.
        PRECISION: rounding hides whether another step would lower the cost.
        CURVATURE: H is not finite, not definite where a method needs that, or refused.
        CALLBACK: the callback asked to stop.
    """

    REACHED = 0
    ITERATIONS = 1
    PRECISION = 2
    CURVATURE = 3
    CALLBACK = 4


_LEFT = "the line search left the region in which the cost is finite"

# Shown every iterate; true to stop.
Watch = Callable[[Iterate], bool]


@dataclass(frozen=True)
class Goal:
    """When to stop: ‖g‖∞ <= tolerance, or so many iterations."""

    tolerance: float
    maxiter: int


@dataclass
class State:
    """What a run goes on from.

    Attributes:
        point: where it is.
        radius: of the next step; ``None`` where the method has none.
        guess: what the last step knows for the next.
        iteration: how many iterations are done.
    """

    point: Point
    radius: float | None
    guess: Guess = Guess()  # noqa: RUF009 (an immutable value)
    iteration: int = 0


class Stop(NamedTuple):
    """Why a run ends."""

    status: Status
    reason: str


def within_radius(
    evaluator: Evaluator, method: Method, state: State, goal: Goal, watch: Watch
) -> Stop:
    """Iterate from a state, which is left at the last point, until there is a reason to stop: its
    status, and in words."""
    assert state.radius is not None
    last = state.iteration + goal.maxiter
    try:
        while True:
            point = state.point
            if point.norm <= goal.tolerance:
                minimum = method.is_minimum(point, math.sqrt(goal.tolerance))
                if minimum is not False:
                    return Stop(Status.REACHED, _reached(point, goal, bool(minimum)))
            if state.iteration >= last:
                return Stop(Status.ITERATIONS, _unfinished(point, goal))
            stop = _iterate(evaluator, method, state)
            if stop is not None:
                return stop
            state.iteration += 1
            if watch(Iterate(state.iteration, state.radius, state.point)):
                return Stop(Status.CALLBACK, "the callback asked to stop")
    except (HessianNotFinite, OverflowError):
        return Stop(Status.CURVATURE, str(HessianNotFinite()))
    except HessianNotDefinite:
        return Stop(
            Status.CURVATURE,
            "H is not positive definite here, which this method needs; trust-exact and cubic do"
            " without",
        )


def _iterate(evaluator: Evaluator, method: Method, state: State) -> Stop | None:
    """One step, taken or refused; a reason where there can be no other."""
    point, radius = state.point, state.radius
    assert radius is not None
    proposal = method.propose(point, radius, state.guess)
    theta = point.theta + proposal.vector
    if not 0 < proposal.predicted < math.inf or bool((theta == point.theta).all()):
        return Stop(Status.PRECISION, _exhausted(point))
    length = float(torch.linalg.vector_norm(proposal.vector))
    trial = evaluator.at(theta)
    state.guess = proposal.guess
    if trial is None:  # the cost is not finite there: shorter than the step itself
        state.radius = _SHRINK * min(radius, length)
        return None
    actual = point.value - trial.value
    ratio = actual / proposal.predicted
    if max(abs(actual), proposal.predicted) <= _NOISE * torch.finfo(point.gradient.dtype).eps * abs(
        point.value
    ):
        # The cost cannot tell any more; the gradient, which is not squared, still can.
        if not trial.norm < point.norm:
            return Stop(Status.PRECISION, _exhausted(point))
        ratio = 1.0
    if ratio < _POOR:
        state.radius = _SHRINK * radius
    elif ratio > _GOOD and proposal.bounded:
        state.radius = _GROW * radius
        state.guess = state.guess._replace(multiplier=_RELAX * state.guess.multiplier)
    if ratio > _ACCEPT:
        state.point = trial
    return None


def newton_cg(evaluator: Evaluator, state: State, goal: Goal, watch: Watch) -> Stop:
    """SciPy's Newton-CG from a state, with values and gradients of one θ computed together;
    otherwise as `within_radius`."""
    from scipy.optimize import minimize

    # SciPy asks for value, gradient and products in calls of their own, by the same x.
    seen: dict[bytes, Point | None] = {_key(_array(state.point.theta)): state.point}
    stops: list[Stop] = []

    def point(x: np.ndarray) -> Point | None:
        key = _key(x)
        if key not in seen:
            while len(seen) > 2:  # the start of a line search and its last two trials
                del seen[next(place for place, held in seen.items() if held is not state.point)]
            seen[key] = evaluator.at(torch.from_numpy(x.copy()).to(state.point.gradient))
        return seen[key]

    def value(x: np.ndarray) -> float:
        reached = point(x)
        return math.inf if reached is None else reached.value

    def gradient(x: np.ndarray) -> np.ndarray:
        reached = point(x)
        return np.full_like(x, math.nan) if reached is None else _array(reached.gradient)

    def product(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        reached = point(x)
        if reached is None:
            raise HessianNotFinite
        return _array(reached.product(torch.from_numpy(v).to(reached.gradient)))

    def after(x: np.ndarray) -> None:
        reached = point(x)
        if reached is None:
            stops.append(Stop(Status.CURVATURE, _LEFT))
            raise StopIteration
        state.point = reached
        state.iteration += 1
        if watch(Iterate(state.iteration, None, reached)):
            stops.append(Stop(Status.CALLBACK, "the callback asked to stop"))
        elif reached.norm <= goal.tolerance:
            stops.append(Stop(Status.REACHED, _reached(reached, goal, False)))
        if stops:
            raise StopIteration

    if state.point.norm <= goal.tolerance:
        return Stop(Status.REACHED, _reached(state.point, goal, False))
    if goal.maxiter == 0:
        return Stop(Status.ITERATIONS, _unfinished(state.point, goal))
    options = {"maxiter": goal.maxiter, "xtol": 0.0}
    try:
        # What the warnings say is in the reason; filters are the process's, `quiet` this thread's.
        with quiet(), np.errstate(all="ignore"):
            start = _array(state.point.theta)
            result: Any = minimize(
                value,
                start,
                jac=gradient,
                hessp=product,
                method="Newton-CG",
                options=options,
                callback=lambda x: after(x),
            )
    except HessianNotFinite:
        return Stop(Status.CURVATURE, str(HessianNotFinite()))
    if stops:
        return stops[0]
    return (
        Stop(Status.ITERATIONS, _unfinished(state.point, goal))
        if result.status == 1
        else Stop(Status.PRECISION, _exhausted(state.point))
    )


def _reached(point: Point, goal: Goal, minimum: bool) -> str:
    also = f", and H has no eigenvalue below {-math.sqrt(goal.tolerance):.2g}" if minimum else ""
    return f"‖g‖∞ = {point.norm:.2e}, within the tolerance of {goal.tolerance:.2g}{also}"


def _unfinished(point: Point, goal: Goal) -> str:
    return (
        f"stopped by maxiter after {goal.maxiter} iterations at ‖g‖∞ = {point.norm:.2e}; go on with"
        " start=result"
    )


def _exhausted(point: Point) -> str:
    dtype = str(point.cost.dtype).removeprefix("torch.")
    more = "; float64 goes further" if point.cost.dtype != torch.float64 else ""
    return f"no step lowers the cost as far as {dtype} can tell, at ‖g‖∞ = {point.norm:.2e}{more}"


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.double().cpu().numpy()


def _key(x: np.ndarray) -> bytes:
    return np.asarray(x, dtype=np.float64).tobytes()
