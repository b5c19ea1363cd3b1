"""`hesse quadratic`: the quadratic model of a cost in words, a table of steps, and pictures."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from hesse.cli.documents import stationary_fields, step_fields, trust_fields
from hesse.cli.output import Output
from hesse.errors import HesseError
from hesse.matrix.block_hessian import BlockHessian
from hesse.plot import ErrorCurve, Plane, Slice, Spectrum
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


def report(q: QuadraticModel, output: Output, tolerance: float = 0.1) -> Trust:
    """Say what the model is, how far it can be trusted, and what each step promises and
    achieves."""
    trust, point = q.trust(tolerance=tolerance), q.stationary_point()
    steps = steps_within(q, trust)
    output.say(q)
    output.say(f"certificate of H: {q.hessian.certificate}")
    output.say(f"stationary point: {point}")
    output.say(f"\n{trust}\n")
    output.say(steps.table(trust))
    output.has(
        quadratic={
            "value": q.value,
            "gradient_norm": float(q.gradient.abs().max()),
            "certificate": q.hessian.certificate,
            "stationary_point": stationary_fields(point),
            "trust": trust_fields(trust),
            "steps": {call: step_fields(step) for call, step in steps.taken.items()},
            "refused": steps.refused,
        }
    )
    return trust


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

    def table(self, trust: Trust) -> str:
        """A line for each: ‖s‖, predicted and actual decrease, and their ratio; or why it is
        refused.

        Before them the radius that bounds them, where it is not that of the line that the trust was
        sought along.
        """
        rows = []
        for call, step in self.taken.items():
            predicted, actual = step.predicted, step.actual()
            ratio = f"{actual / predicted:.3f}" if predicted > 0 else ""
            rows.append(
                [call, f"{step.norm:.4g}", f"{predicted:.4g}", f"{actual:.4g}", ratio, step.reason]
            )
        # Columns as wide as their longest cell; the last one, prose, is not padded.
        head = ["step", "‖s‖", "predicted decrease", "actual", "ratio", "how"]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

        def line(row: list[str]) -> str:
            numbers = (cell.rjust(width) for cell, width in zip(row[1:5], widths[1:5], strict=True))
            return "  ".join([row[0].ljust(widths[0]), *numbers, row[5]])

        refused = (f"{call} refused: {why}" for call, why in self.refused.items())
        lines = [*map(line, [head, *rows]), *refused]
        if self.scale.radius < trust.radius < math.inf:
            wide, narrow = f"trust_region(radius={trust.radius:.3g})", f"{self.scale.radius:.3g}"
            lines.insert(
                0, f"along the step of {wide} the radius is {narrow}; the steps here keep to it\n"
            )
        return "\n".join(lines)


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


def pictures(q: QuadraticModel, trust: Trust) -> list[Callable[..., Any]]:
    """The cost and its model along a line and over a plane, the spectrum where H is built, and the
    error: each ready to draw."""
    # Both with one tolerance, so that their radii are those of the report.
    line, plane = (display.from_model(q, tolerance=trust.tolerance) for display in (Slice, Plane))
    spectrum = (
        [Spectrum.from_hessian(q.hessian).plot] if isinstance(q.hessian, BlockHessian) else []
    )
    return [line.plot, plane.plot, *spectrum, ErrorCurve.from_trust(trust).plot]
