"""Costs that PyTorch has much to say of, on every stream that it has, while hesse tries its ways.
Run, it asks all of them, and writes what hesse says of them into the file named."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse


class Layer(nn.Module):
    """A linear layer and what a subclass makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("edges", torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]))


class Filled(Layer):
    """Rows that the data choose."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).index_fill(0, (x[:, 0] > 0).nonzero()[:, 0], 0.5)


class Edges(Layer):
    """Messages along a list of edges, between as many nodes as it names."""

    def forward(self, x: Tensor) -> Tensor:
        h, (source, target) = self.layer(x), self.get_buffer("edges")
        nodes = int(self.get_buffer("edges").max()) + 1
        return torch.zeros(nodes, 2, dtype=h.dtype).index_add(0, target, h[source].tanh())


class Masked(Layer):
    def forward(self, x: Tensor) -> Tensor:
        h, mask = self.layer(x), x[:, 0] > 0
        made = torch.zeros_like(h)
        made[mask] = h[mask].tanh()
        return made


class Groups(Layer):
    """Sums over the members of groups."""

    def forward(self, x: Tensor) -> Tensor:
        h, group = self.layer(x), (x[:, 0] > 0).long()
        return torch.stack([h[group == 0].sum(0), h[group == 1].tanh().sum(0)])[group]


class Unique(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * torch.unique(x[:, 0].round()).numel()


class Branch(Layer):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return h.tanh() if float(h.detach().sum()) > 0 else h.sin()


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Bilinear(3, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x.tanh())


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.cell(x, torch.zeros(len(x), 2, dtype=x.dtype))
        return self.cell(x, h)


class Recurrent(nn.Module):
    def __init__(self, packed: bool) -> None:
        super().__init__()
        self.layer, self.packed = nn.GRU(3, 2, batch_first=True), packed

    def forward(self, x: Tensor) -> Tensor:
        steps = x[:, None].expand(-1, 3, -1)
        if not self.packed:
            return self.layer(steps)[0][:, -1]
        return self.layer(
            nn.utils.rnn.pack_padded_sequence(steps, torch.tensor([3, 2, 2, 1]), batch_first=True)
        )[1][0]


class Jacobian(Layer):
    """torch.func in the forward."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.vmap(torch.func.jacrev(lambda z: self.layer(z).tanh()))(x).sum(2)


class Solve(Layer):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return torch.linalg.solve(2 * torch.eye(2) + h.T @ h, h.T).T


class Spectrum(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(self.layer(x).tanh()).abs()


class Sampled(Layer):
    """No forward derivatives."""

    def forward(self, x: Tensor) -> Tensor:
        image = x[:, None, None].expand(-1, 2, 3, 3).contiguous()
        return F.grid_sample(image, self.layer(x).tanh()[:, None, None], align_corners=False)[
            :, :, 0, 0
        ]


class Scanned(Layer):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return torch.cumprod(h.sigmoid(), 1) + torch.sort(h, 1)[0] + torch.logcumsumexp(h, 1)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(3, 4), nn.Linear(4, 2)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros(len(x), 3, dtype=torch.bool)
        return self.out(
            self.layer(self.into(x)[:, None].expand(-1, 3, -1), src_key_padding_mask=mask)[:, 0]
        )


def _data(outputs: int = 2) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, generator=random), torch.randn(4, outputs, generator=random)


def _of(make: Callable[[], nn.Module], loss: Any = "mse") -> Callable[[], hesse.Cost]:
    def made() -> hesse.Cost:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return hesse.Cost(make(), loss, _data())

    return made


def _closure() -> hesse.Cost:
    X, _ = _data()
    return hesse.Cost.from_function(lambda p: (X @ p["w"]).tanh().sum(), {"w": torch.ones(3)})


def _slope() -> hesse.Cost:
    def f(p: dict[str, Tensor]) -> Tensor:
        return torch.func.grad(lambda t: (p["w"] * t).sin().sum())(torch.tensor(1.0))

    return hesse.Cost.from_function(f, {"w": torch.ones(3)})


def _divergence() -> hesse.Cost:
    X, y = _data()
    model = nn.Sequential(nn.Linear(3, 2), nn.LogSoftmax(1))
    return hesse.Cost(model, nn.KLDivLoss(reduction="batchmean"), (X, y.softmax(1)))


LOUD: dict[str, Callable[[], hesse.Cost]] = {
    **{
        kind.__name__: _of(kind)
        for kind in (Filled, Edges, Masked, Groups, Unique, Branch, Bilinear, Cell, Jacobian)
    },
    **{kind.__name__: _of(kind) for kind in (Solve, Spectrum, Sampled, Scanned, Attention)},
    "Recurrent": _of(lambda: Recurrent(False)),
    "Packed": _of(lambda: Recurrent(True)),
    "BatchNorm": _of(lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))),
    "Spectral": _of(lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2))),
    "closure": _closure,
    "slope": _slope,
    "divergence": _divergence,
}


def told(cost: hesse.Cost) -> list[str]:
    """Every note, and every refusal."""
    found: list[str] = []
    for question in (hesse.plan, hesse.hessian, hesse.diagonal, hesse.operator, hesse.gradient):
        try:
            made: Any = question(cost)
        except hesse.HesseError as error:  # in words of its own
            found.append(str(error))
            continue
        found += getattr(made, "notes", ())
        found += made.certificate.notes if getattr(made, "certificate", None) else ()
    return found


if __name__ == "__main__":
    said = [note for each in LOUD.values() for note in told(each())]
    Path(sys.argv[1]).write_text(json.dumps(said))
