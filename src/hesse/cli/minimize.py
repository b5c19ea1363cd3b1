"""`hesse minimize`: go down a cost, tell how it went, and keep the parameters in a file that a
later run goes on from."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from scipy.optimize import OptimizeResult

import hesse
from hesse.cli.documents import minimum_fields
from hesse.cli.output import Output
from hesse.errors import HesseError
from hesse.taylor import Iterate
from hesse.taylor.checkpoint import read


def run(
    cost: hesse.Cost,
    method: str,
    earlier: OptimizeResult | None,
    output: Output,
    *,
    out: Path | None = None,
    **options: Any,
) -> OptimizeResult:
    """Minimise from a cost's parameters, and say where from and where to, what it took and why it
    stopped.

    Args:
        cost: at the start.
        method: as for `hesse.minimize`.
        earlier: the run that this one goes on from: its radius and counts.
        output: where to say it.
        out: the file that keeps the run.
        options: others of `hesse.minimize`.

    Raises:
        KeyboardInterrupt: with a text that says what is left of the run.
    """
    # The result has no iterate, and so no smallest eigenvalue: the callback keeps the last one.
    last: list[Iterate] = []

    def keep(iterate: Iterate) -> None:
        last[:] = [iterate]

    # What else the file holds of the model is in the cost.
    start = None if earlier is None else OptimizeResult(earlier, parameters=dict(cost.parameters))
    before, written = hesse.value(cost), None if out is None else _written(out)
    begin = time.perf_counter()
    try:
        result = hesse.minimize(cost, method, start=start, callback=keep, out=out, **options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_left(last, out, written)) from None
    seconds = time.perf_counter() - begin
    each = f", {seconds / result.nit:.3g} s each" if result.nit else ""
    output.say(f"{cost}: {method}, {result.nit} iterations in {seconds:.2f} s{each}")
    output.say(
        f"cost {before:.9g} -> {result.fun:.9g}, ‖g‖∞ {abs(result.jac).max():.2e}"
        + "".join(f", {it.lowest}" for it in last)
    )
    output.say(
        f"{result.nfev} evaluations with gradient, {result.nhev} Hessians or products with it"
    )
    for where, certificate in zip(
        ("at the first iterate", "at the last"), result.certificates, strict=False
    ):
        output.say(f"certificate of H {where}: {certificate}")
    output.say(f"{'converged' if result.success else 'not converged'}: {result.message}")
    output.has(seconds=seconds, value_before=before, **minimum_fields(result))
    return result


def _left(last: list[Iterate], out: Path | None, before: int | None) -> str:
    """What a run that is interrupted leaves; ``before`` is when ``out`` was written before it."""
    kept: int | None = None
    # The file may know of an iteration that the callback has not heard of yet.
    if out is not None and _written(out) != before:
        with suppress(HesseError):
            kept = read(out, "--out").get("nit")
    costs = {iterate.iteration: f", at a cost of {iterate.value:.9g}" for iterate in last}
    reached = [*costs, *([] if kept is None else [kept])]
    if not reached:
        return "interrupted before the first iteration was done; no parameters were found"
    iterations = max(reached)
    said = f"interrupted after {iterations} iterations{costs.get(iterations, '')}"
    if out is None:
        return f"{said}; the parameters are lost, as no --out names a file for them"
    if kept != iterations:
        return f"{said}; the parameters are lost, as {str(out)!r} could not be written"
    return f"{said}; the best parameters so far are in {out}: --start {out} goes on from them"


def _written(out: Path) -> int | None:
    """When a file was written; ``None`` where there is none."""
    return out.stat().st_mtime_ns if out.exists() else None
