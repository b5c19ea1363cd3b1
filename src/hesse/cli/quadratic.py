"""`hesse quadratic`: the quadratic model of a cost in words, a table of steps, and pictures."""

from collections.abc import Callable
from typing import Any

from hesse.cli.documents import stationary_fields, step_fields, trust_fields
from hesse.cli.output import Output
from hesse.matrix.block_hessian import BlockHessian
from hesse.plot import Spectrum
from hesse.reports.findings import Findings


def report(found: Findings, output: Output) -> None:
    """Say what the model is, how far it can be trusted, and what each step promises and
    achieves."""
    q, trust, point, steps = found.model, found.trust, found.stationary_point, found.steps
    output.say(q)
    output.say(f"certificate of H: {q.hessian.certificate}")
    output.say(f"stationary point: {point}")
    output.say(f"\n{trust}\n")
    output.say(steps.text(trust))
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


def pictures(found: Findings) -> list[Callable[..., Any]]:
    """The cost and its model along a line and over a plane, the spectrum where H is built, and the
    error: each ready to draw."""
    H = found.H
    spectrum = [Spectrum.from_hessian(H).plot] if isinstance(H, BlockHessian) else []
    return [found.line.plot, found.plane.plot, *spectrum, found.error.plot]
