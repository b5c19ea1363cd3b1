"""The steps that a quadratic model proposes within the radius that it is trusted in, beside each
other."""

import math
from collections.abc import Callable
from typing import NamedTuple

from hesse.display import Table
from hesse.display.text import table_lines
from hesse.errors import HesseError
from hesse.plot import ErrorCurve
from hesse.taylor import QuadraticModel, Step, Trust


class StepScale(NamedTuple):
    """What the steps are asked for with: a radius, a bound M of how fast H changes, and a
    damping."""

    radius: float
    M: float
    damping: float


def step_calls(scale: StepScale) -> dict[str, Callable[[QuadraticModel], Step]]:
    """Each step as it is asked for, without those whose number would be zero: an exact model, a
    minimum within the radius."""
    radius, M, damping = scale
    calls: dict[str, Callable[[QuadraticModel], Step]] = {
        "newton()": lambda q: q.newton(),
        f"newton(damping={damping:.3g})": lambda q: q.newton(damping),
        "levenberg_marquardt(damping=1)": lambda q: q.levenberg_marquardt(1.0),
        f"trust_region(radius={radius:.3g})": lambda q: q.trust_region(radius),
        f"cubic(M={M:.3g})": lambda q: q.cubic(M),
        f"saddle_free(damping={damping:.3g})": lambda q: q.saddle_free(damping),
        f"negative_curvature(length={radius:.3g})": lambda q: q.negative_curvature(radius),
    }
    return {
        call: make
        for call, make in calls.items()
        if (M or "M=" not in call) and "(damping=0)" not in call
    }


def scale_of(q: QuadraticModel, trust: Trust) -> StepScale:
    """A radius, the M that the error shows within it (\\|error\\| = M/6 ‖s‖³), a damping from the
    step to it.

    The step of the trust region seldom goes along −g. So the model is tried along that step as
    well, and the smaller radius and the larger M are taken.
    """
    # Where there is no radius, or no end to it, the table's largest step.
    radius = trust.radius if 0 < trust.radius < math.inf else float(trust.norms[-1])
    step, tried = q.trust_region(radius), [trust]
    if step.norm > 0:
        tried.append(q.trust(step, trust.tolerance))
        radius = min(radius, tried[1].radius or radius)
    # An error of M/6 ‖s‖³ is what a change of H by M per length makes.
    M = max(_change_of_curvature(ErrorCurve.from_trust(along), radius) for along in tried)
    # A little more than λ of the step to that radius: the damped step is a little shorter.
    return StepScale(radius, M, 1.1 * q.trust_region(radius).multiplier)


def _change_of_curvature(curve: ErrorCurve, radius: float) -> float:
    known = curve.clear & (curve.norms <= radius)
    return float((6 * curve.error[known] / curve.norms[known] ** 3).max(initial=0.0))


class Steps(NamedTuple):
    """What came of each step that was asked for.

    Attributes:
        scale: what they were asked for with.
        taken: the steps, by their calls.
        refused: why this H does not allow the others.
    """

    scale: StepScale
    taken: dict[str, Step]
    refused: dict[str, str]

    @property
    def table(self) -> Table:
        """A row for each: ‖s‖, predicted and actual decrease, and their ratio."""
        head = ("step", "‖s‖", "predicted decrease", "actual", "ratio", "how")
        rows = []
        for call, step in self.taken.items():
            predicted, actual = step.predicted, step.actual()
            ratio = f"{actual / predicted:.3f}" if predicted > 0 else ""
            numbers = (f"{number:.4g}" for number in (step.norm, predicted, actual))
            rows.append((call, *numbers, ratio, step.reason))
        return Table(head, tuple(rows), (0, len(head) - 1))

    def notes(self, trust: Trust) -> tuple[str, list[str]]:
        """What is to be said before the table, where the radius that bounds them is not that of the
        line that the trust was sought along; and after it, why others are refused."""
        before = ""
        if self.scale.radius < trust.radius < math.inf:
            before = (
                f"along the step of trust_region(radius={trust.radius:.3g}) the radius is"
                f" {self.scale.radius:.3g}; the steps here keep to it"
            )
        return before, [f"{call} refused: {why}" for call, why in self.refused.items()]

    def text(self, trust: Trust) -> str:
        """All of it."""
        before, refused = self.notes(trust)
        return "\n".join([*([before, ""] if before else []), *table_lines(self.table), *refused])


def steps_within(q: QuadraticModel, trust: Trust) -> Steps:
    """Each step, asked for with what the trust says."""
    scale = scale_of(q, trust)
    taken, refused = {}, {}
    for call, make in step_calls(scale).items():
        try:
            taken[call] = make(q)
        # A step that this H does not allow is a line of the report, not the end of it.
        except HesseError as error:
            refused[call] = str(error).partition(": ")[2]
    return Steps(scale, taken, refused)
