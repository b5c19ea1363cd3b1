"""K-FAC's factors beside curvlinops'. Agreement first, then time. ``python -m bench.kfac``."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from bench import report
from bench.measure import interleaved, timed

TOLERANCE, ROUNDS, MOST = 1e-5, 10, 1.0
# What curvlinops calls each curvature.
FISHERS = {"gauss_newton": "type-2", "empirical_fisher": "empirical", "foof": "forward-only"}


class Encoder(nn.Module):
    """Two layers of attention and a dense network over 16 tokens, whose average is classified; its
    norms are without parameters, which curvlinops does not take."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.enter, self.head = heads, nn.Linear(32, width), nn.Linear(width, 10)
        for name, (inputs, outputs) in {
            "packed": (width, 3 * width),
            "out": (width, width),
            "up": (width, 4 * width),
            "down": (4 * width, width),
        }.items():
            setattr(self, name, nn.ModuleList([nn.Linear(inputs, outputs) for _ in range(2)]))

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, 32) -> scores."""
        x = self.enter(x)
        layers = zip(self.packed, self.out, self.up, self.down, strict=True)  # type: ignore[arg-type]
        for packed, out, up, down in layers:
            split = packed(F.layer_norm(x, x.shape[-1:])).unflatten(2, (3, self.heads, -1))
            met = F.scaled_dot_product_attention(*split.permute(2, 0, 3, 1, 4))
            x = x + out(met.transpose(1, 2).flatten(2))
            x = x + down(F.gelu(up(F.layer_norm(x, x.shape[-1:]))))
        return self.head(x.mean(1))


CASES: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "784-256-256-10, 512 samples": lambda: (
        nn.Sequential(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
        ),
        torch.randn(512, 784),
    ),
    "two convolutions, 128 images": lambda: (
        nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(32 * 49, 10)),
        ),
        torch.randn(128, 1, 28, 28),
    ),
    "two layers of attention, 64 sentences": lambda: (Encoder(), torch.randn(64, 16, 32)),
}


def theirs(model: nn.Module, x: Tensor, y: Tensor, fisher: str, sharing: str) -> Any:
    """Their operator, its factors computed."""
    from curvlinops import KFACLinearOperator

    operator = KFACLinearOperator(
        model,
        nn.CrossEntropyLoss(),
        list(model.parameters()),
        [(x, y)],
        check_deterministic=False,
        fisher_type=fisher,
        kfac_approx=sharing,
        separate_weight_and_bias=False,
    )
    operator.compute_kronecker_factors()
    return operator


def measure(name: str, curvature: str, sharing: str) -> dict[str, Any]:
    """Agreement of a product, then processor time in turn."""
    torch.manual_seed(0)
    model, x = CASES[name]()
    y = torch.randint(10, (len(x),))
    cost = hesse.Cost(model, "cross_entropy", (x, y))
    options: dict[str, Any] = {"kind": "foof"} if curvature == "foof" else {"curvature": curvature}

    def ours() -> hesse.KFAC:
        return hesse.kfac(cost, sharing=sharing, **options)

    def other() -> Any:
        return theirs(model, x, y, FISHERS[curvature], sharing)

    first, K = timed(ours, time.process_time)
    v = torch.randn(cost.layout.size)
    expected = other() @ v
    error = float((K @ v - expected).norm() / expected.norm())
    if not error <= TOLERANCE:
        raise SystemExit(f"{name}, {curvature}, {sharing}: they differ by {error:.1e} relative")
    seconds = interleaved({"hesse": ours, "curvlinops": other}, ROUNDS, time.process_time)
    return {"case": name, "curvature": curvature, "sharing": sharing, "first": first,
            "P": cost.layout.size, "error": error, "seconds": seconds}  # fmt: skip


def row(measured: dict[str, Any]) -> list[str]:
    """One line of the table."""
    ours, other = (min(measured["seconds"][who]) for who in ("hesse", "curvlinops"))
    ratio = ours / other
    return [measured["case"], measured["curvature"], measured["sharing"], f"{measured['P']}",
            report.seconds(ours), report.seconds(other),
            f"{ratio:.2f}× ({report.target(ratio, MOST, f'{MOST:g}×', least=False)})",
            report.seconds(measured["first"]), f"{measured['error']:.1e}"]  # fmt: skip


def main() -> None:
    """Measure, print and record."""
    warnings.simplefilter("ignore")
    measured = [
        measure(name, curvature, sharing)
        for name in CASES
        for curvature in FISHERS
        for sharing in ("expand", "reduce")
    ]
    result = report.Report(
        name="kfac",
        title=f"K-FAC's factors, {torch.get_num_threads()} threads",
        header=[
            *("case", "of", "sharing", "P", "hesse", "curvlinops", "ratio", "first", "error"),
        ],
        rows=[row(m) for m in measured],
        notes=[
            (
                f"Processor time, the least of {ROUNDS} rounds taken in turn; biases in the block"
                " of their weights. `first` has the trace of the network, once for each model."
            ),
        ],
        measurements=measured,
    )
    print(result.markdown())
    result.save()


if __name__ == "__main__":
    main()
