"""`hesse minimize`: go down a cost, tell how it went, and keep the parameters in a file that a
later run goes on from."""

import time
from typing import Any

from scipy.optimize import OptimizeResult

import hesse
from hesse.cli.output import say
from hesse.taylor import Iterate


def run(
    cost: hesse.Cost, method: str, start: OptimizeResult | None, **options: Any
) -> OptimizeResult:
    """Minimise, and print where from and where to, what it took and why it stopped."""
    # The result has no iterate, and so no smallest eigenvalue: the callback keeps the last one.
    last: list[Iterate] = []

    def keep(iterate: Iterate) -> None:
        last[:] = [iterate]

    # Its value at the start, which an earlier result or the model has.
    before = hesse.value(cost if start is None else cost.at(start.parameters))
    begin = time.perf_counter()
    result = hesse.minimize(cost, method, start=start, callback=keep, **options)
    seconds = time.perf_counter() - begin
    each = f", {seconds / result.nit:.3g} s each" if result.nit else ""
    say(f"{cost}: {method}, {result.nit} iterations in {seconds:.2f} s{each}")
    say(
        f"cost {before:.9g} -> {result.fun:.9g}, ‖g‖∞ {abs(result.jac).max():.2e}"
        + "".join(f", {it.lowest}" for it in last)
    )
    say(f"{result.nfev} evaluations with gradient, {result.nhev} Hessians or products with it")
    for where, certificate in zip(
        ("at the first iterate", "at the last"), result.certificates, strict=False
    ):
        say(f"certificate of H {where}: {certificate}")
    say(f"{'converged' if result.success else 'not converged'}: {result.message}")
    return result
