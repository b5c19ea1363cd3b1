"""How heavy a derivation's page is, and how long it takes to write. ``python -m bench.pages``."""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

import hesse
from bench import report

REPEATS = 5
HEADER = ["network", "bytes", "target", "processor time", "target"]


class LastOutput(nn.Module):
    """An LSTM, and a layer on its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(2, 2, batch_first=True), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(x)[0][:, -1])


class Encoder(nn.Module):
    """A layer of a transformer, and a layer on the mean of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.layer(x).mean(1))


# The network, the shape of one sample, and the targets: megabytes, seconds.
PAGES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float, float]] = {
    "3-4-LayerNorm-2": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
        (3,),
        1.0,
        1.0,
    ),
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)),
        (1, 4, 4),
        1.0,
        1.0,
    ),
    "transformer layer": (Encoder, (3, 4), 1.0, 2.0),
    "LSTM": (LastOutput, (2, 2), 1.0, 1.0),
}


def main() -> None:
    """Measure, print and record."""
    rows, measurements = [], []
    for name, (network, shape, megabytes, bound) in PAGES.items():
        torch.manual_seed(0)
        data = torch.randn(3, *shape, dtype=torch.float64), torch.tensor([0, 1, 0])
        d = hesse.derive(hesse.Cost(network().double(), "cross_entropy", data))
        size, seconds = len(d.html().encode()), []
        for _ in range(REPEATS):
            begin = time.process_time()
            d.html()
            seconds.append(time.process_time() - begin)
        light = report.target(size / 1e6, megabytes, f"{megabytes:g} MB", least=False)
        fast = report.target(median(seconds), bound, report.seconds(bound), least=False)
        rows.append([name, f"{size:,}", light, report.seconds(median(seconds)), fast])
        measurements.append({"name": name, "bytes": size, "seconds": seconds})
    result = report.Report(
        name="pages",
        title="Pages of derivations, all readings",
        header=HEADER,
        rows=rows,
        notes=[f"One process, the median of {REPEATS} after a first page; derived before."],
        measurements=measurements,
    )
    print(result.markdown())
    result.save()


if __name__ == "__main__":
    main()
