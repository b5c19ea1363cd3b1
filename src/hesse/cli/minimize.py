"""`hesse minimize`: go down a cost, tell how it went, and keep the parameters in a file that a
later run goes on from."""

import os
import time
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.optimize import OptimizeResult

import hesse
from hesse.cli.output import say
from hesse.errors import HesseFileError
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


def write(result: OptimizeResult, path: Path) -> None:
    """The parameters by name, as `model.load_state_dict` takes them, and the radius: beside the
    place first, then renamed."""
    tensors = {name: value.contiguous() for name, value in result.parameters.items()}
    metadata = {
        "hesse": hesse.__version__,
        "method": result.method,
        "cost": repr(result.cost),
        "message": result.message,
    }
    if result.radius is not None:
        metadata["radius"] = repr(result.radius)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        # The mode that any new file has here; safetensors makes its own private.
        partial.touch()
        mode = partial.stat().st_mode
        save_file(tensors, partial, metadata=metadata)
        partial.chmod(mode)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise HesseFileError(f"--out: cannot write {str(path)!r}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> OptimizeResult:
    """Where the run that wrote this file ended; any file of parameters by name will do.

    Raises:
        HesseFileError: there is no such file, or it holds no tensors.
    """
    if not path.is_file():
        raise HesseFileError(f"--start: there is no file {str(path)!r}; write one with --out")
    try:
        with safe_open(path, framework="pt") as file:
            parameters = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
            radius = (file.metadata() or {}).get("radius")
    except SafetensorError as error:
        raise HesseFileError(
            f"--start: {str(path)!r} cannot be read as parameters: {error}"
        ) from error
    return OptimizeResult(parameters=parameters, radius=None if radius is None else float(radius))
