"""`hesse demo`: the main job on real data, from training to pictures, each number beside a
check."""

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hesse
from hesse.cli.documents import cost_fields, hessian_fields, plan_fields
from hesse.cli.inputs.places import require
from hesse.cli.output import Output, save_figure
from hesse.cli.quadratic import pictures, report
from hesse.errors import HesseFileError
from hesse.plot import Spectrum
from hesse.process.files import write_text

PENALTY = 1e-3
WIDTHS = (64, 32, 10)  # P = 2,410
CHUNK = 256  # Hessian-vector products at once
EARLY = 5  # iterations: far from a minimum, where steps differ


def run(folder: Path, output: Output) -> None:
    """Train, plan, compute, check, time, say it, and write the results to a folder.

    Raises:
        HesseImportError: scikit-learn or matplotlib is missing.
        HesseFileError: the folder cannot be made.
    """
    require("sklearn", "demo", "the demo")
    for package in ("matplotlib", "jinja2"):
        require(package, "demo", "the demo")
    _make(folder)
    say = output.say
    X, y = digits()

    output.heading("Handwritten digits")
    net, seconds = timed(lambda: train(X, y))
    cost = hesse.Cost(net, "cross_entropy", (X, y), penalty=PENALTY)
    right = float((net(X).argmax(1) == y).float().mean())
    say(f"data      {len(X):,} images of 8 x 8 pixels from scikit-learn, 10 classes, in float64")
    say(
        f"network   {'-'.join(map(str, WIDTHS))}, tanh, P = {cost.layout.size:,}; trained in"
        f" {seconds:.1f} s, {right:.1%} right"
    )
    say(
        f"cost      J = mean cross entropy + 1/2 * {PENALTY:g} * ||parameters||^2 ="
        f" {hesse.value(cost):.4f}"
    )

    output.has(cost=cost_fields(cost), value=hesse.value(cost), accuracy=right)

    output.heading("The plan")
    plan, tracing = timed(lambda: hesse.plan(cost))
    say(plan)
    output.has(plan=plan_fields(plan))

    output.heading("The exact Hessian")
    H = hesse.hessian(cost)
    # The best of three: the least disturbed by whatever else runs.
    ours = min(timed(lambda: hesse.hessian(cost))[1] for _ in range(3))
    say(H)
    output.has(hessian=hessian_fields(H))

    output.heading("Agreement with automatic differentiation (largest difference / largest entry)")
    product, size = hessian_vector_product(cost), cost.layout.size
    V = torch.randn(size, 8, dtype=cost.dtype, generator=torch.Generator().manual_seed(1))
    # All columns would take minutes on a slow machine: as many as five seconds allow.
    columns, taken = columns_within(5.0, product, cost.theta)
    count = len(columns)
    along = difference(H @ V, torch.func.vmap(product)(V.T).T)
    within = difference(H.dense()[:count], columns)
    say(f"along {V.shape[1]} random directions       {along:.0e}")
    say(f"in {count:,} of the {size:,} columns   {within:.0e}")
    output.has(agreement={"directions": along, "columns": within, "of_columns": count})

    say(f"its certificate: {H.certificate}")

    output.heading("Time")
    whole = taken * size / count
    how = "" if count == size else f", extrapolated from {taken:.1f} s for the first {count:,}"
    say(f"hesse.plan                  {tracing:7.2f} s   traces the network, once")
    say(f"hesse.hessian               {ours:7.2f} s")
    say(
        f"automatic differentiation   {whole:7.2f} s   {size:,} Hessian-vector products,"
        f" vmap(jvp(grad)) by {CHUNK}{how}"
    )
    say(f"ratio                       {whole / ours:5.0f}")
    output.has(
        seconds={"plan": tracing, "hessian": ours, "automatic_differentiation": whole},
        ratio=whole / ours,
    )

    output.heading("Curvature")
    values, seconds = timed(H.eigvalsh)
    inertia = H.inertia()
    say(f"smallest eigenvalues   {_listed(values[:4])}")
    say(f"largest eigenvalues    {_listed(values[-4:])}   all {size:,} in {seconds:.1f} s")
    say(
        f"inertia                {inertia.negative:,} negative, {inertia.undecided:,} undecided,"
        f" {inertia.positive:,} positive"
    )
    say(f"condition number       {H.condition_number():.3g}")
    output.has(
        eigenvalues={"smallest": values[:4], "largest": values[-4:]},
        inertia=inertia,
        condition_number=H.condition_number(),
    )

    output.heading(f"The quadratic model of the cost early in training, after {EARLY} iterations")
    q = hesse.quadratic(hesse.Cost(train(X, y, EARLY), "cross_entropy", (X, y), penalty=PENALTY))
    trust = report(q, output)

    output.heading("The formula")
    derivation, seconds = timed(lambda: hesse.derive(cost))
    first, last = derivation.parameters[0], derivation.parameters[2]
    say(f"{derivation.certificate}; in {seconds:.1f} s")
    say(f"the mixed block, d2J / d{first} d{last}, of one sample:")
    say(f"  {derivation.block(first, last).matrix()}")
    output.has(derivation={"certificate": derivation.certificate})

    output.heading("Written")
    write_text(folder / "derivation.html", "--out", derivation.html())
    H.save(folder / "hessian.safetensors")
    save_figure(folder / "hessian.png", "--out", H.plot)
    save_figure(folder / "spectrum.png", "--out", Spectrum.from_hessian(H).plot)
    save_figure(folder / "quadratic.png", "--out", *pictures(q, trust))
    names = (
        "hessian.png",
        "spectrum.png",
        "quadratic.png",
        "hessian.safetensors",
        "derivation.html",
    )
    for name in names:
        say(folder / name)
    output.has(files=[folder / name for name in names])


def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's handwritten digits: (1797, 64) grey values in [0, 1] in float64, and their
    classes."""
    from sklearn.datasets import load_digits

    loaded: Any = load_digits()
    return torch.tensor(loaded.data / 16), torch.tensor(loaded.target)


def train(X: Tensor, y: Tensor, iterations: int = 100) -> nn.Module:
    """A small tanh network near a minimum of its cost, or on its way there, the same one every
    time.

    Its weights are drawn from a generator of its own: torch's global random state is not touched.
    """
    # skip_init: the layers' own initialisation would draw from the global random state.
    generator = torch.Generator().manual_seed(0)
    layers = [nn.utils.skip_init(nn.Linear, n, m, dtype=X.dtype) for n, m in pairwise(WIDTHS)]
    net = nn.Sequential(layers[0], nn.Tanh(), layers[1])
    for p in net.parameters():
        nn.init.xavier_uniform_(p, generator=generator) if p.ndim == 2 else nn.init.zeros_(p)
    optimiser = torch.optim.LBFGS(
        net.parameters(), max_iter=iterations, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        J = (
            F.cross_entropy(net(X), y)
            + 0.5 * PENALTY * torch.stack([p.square().sum() for p in net.parameters()]).sum()
        )
        J.backward()
        return J

    optimiser.step(closure)
    return net


def hessian_vector_product(cost: hesse.Cost) -> Callable[[Tensor], Tensor]:
    """v -> H v by forward over reverse mode, torch's fastest, with nothing of hesse's own rules."""
    batches, theta = list(cost.batches()), cost.theta

    def J(theta: Tensor) -> Tensor:
        parameters = cost.layout.unflatten(theta)
        return torch.stack(
            [cost.batch_cost(parameters, batch) for batch in batches]
        ).sum() + cost.penalty_cost(parameters)

    return lambda v: torch.func.jvp(torch.func.grad(J), (theta,), (v,))[1]


def columns_within(
    seconds: float, product: Callable[[Tensor], Tensor], theta: Tensor
) -> tuple[Tensor, float]:
    """The first columns of H, as rows: all of them, or as many as the time allows; and the time
    they took."""
    # Columns side by side, as anybody would who knows torch.func.
    mapped, units = torch.func.vmap(product), torch.eye(len(theta), dtype=theta.dtype)
    mapped(units[:CHUNK])  # a first call warms up, and is not timed
    done: list[Tensor] = []
    start = time.perf_counter()
    for chunk in units.split(CHUNK):
        done.append(mapped(chunk))
        if time.perf_counter() - start > seconds:
            break
    return torch.cat(done), time.perf_counter() - start


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest entry."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """A result and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def _listed(values: Tensor) -> str:
    return ", ".join(f"{value:.3g}" for value in values.tolist())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HesseFileError(
            f"--out: the folder {str(folder)!r} cannot be made: {error.strerror}"
        ) from error
