"""Networks that `torch.export` refuses, or whose samples are not independent: what is left to the
general ways. Each stands for a habit in how models are written."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Branching(nn.Module):
    """Layers that are centred where a value that was read says so."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, width) for n in (inputs, width, width))
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
            if x.abs().mean().item() > 0.1:
                x = x - x.mean(0)
        return self.head(x)


class Equilibrium(nn.Module):
    """z = tanh(W z + U x + b), iterated until it rests."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.inward, self.around = nn.Linear(inputs, width), nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        given = self.inward(x)
        z, moved = torch.zeros_like(given), 1.0
        while moved > 1e-3:
            before, z = z, torch.tanh(self.around(z) + given)
            moved = float((z - before).detach().abs().max())
        return self.head(z)


class _Swish(torch.autograd.Function):
    """u σ(u), its slope written out, in forward mode too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor) -> Tensor:
        return u * torch.sigmoid(u)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0] * _swish_slope(*ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return tangents[0] * _swish_slope(*ctx.saved_tensors)


class _OldSwish(torch.autograd.Function):
    """The same as it was written before `torch.func`, which does not take it."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return u * torch.sigmoid(u)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return slopes[0] * _swish_slope(*ctx.saved_tensors)


def _swish_slope(u: Tensor) -> Tensor:
    gate = torch.sigmoid(u)
    return gate * (1 + u * (1 - gate))


class OwnFunction(nn.Module):
    """Dense layers with an activation that is an `autograd.Function`."""

    def __init__(self, *widths: int, old: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
        self.activation = (_OldSwish if old else _Swish).apply

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


class Equation(nn.Module):
    """u'' + u of a network u at each point of x, by `torch.func` inside the model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = (nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.network = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        def u(point: Tensor) -> Tensor:
            return self.network(point)[0]

        def residual(point: Tensor) -> Tensor:
            return torch.func.jacfwd(torch.func.grad(u))(point)[0] + u(point)

        return torch.func.vmap(residual)(x)


class Forces(nn.Module):
    """−∂E/∂x of an energy, by `autograd.grad` inside the model."""

    def __init__(self, atoms: int, width: int) -> None:
        super().__init__()
        layers = (nn.Linear(3 * atoms, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.energy = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            place = x.detach().clone().requires_grad_()
            energy = self.energy(place).sum()
            return -torch.autograd.grad(energy, place, create_graph=True)[0]


class Checkpointed(nn.Module):
    """Blocks that are computed again on the way back, and scores of what sets samples apart."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.into, self.head = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.Tanh()) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        for block in self.blocks:
            x = x + checkpoint(block, x, use_reentrant=False)
        return self.head(x - x.mean(0))


class Spectral(nn.Module):
    """Layers that mix along a line by complex weights of its lowest frequencies."""

    def __init__(self, channels: int, modes: int, layers: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(1, channels), nn.Linear(channels, 1)
        self.weights = nn.ParameterList(
            torch.randn(channels, channels, modes, 2) / channels for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.into(x).mT
        for weight in self.weights:
            waves = torch.fft.rfft(h)
            low = torch.einsum(
                "bim,iom->bom", waves[..., : weight.shape[2]], torch.complex(*weight.unbind(-1))
            )
            h = torch.tanh(h + torch.fft.irfft(low, n=h.shape[-1]))
        return self.out(h.mT)


class Ragged(nn.Module):
    """A recurrence over as many steps as each sample says it has, in its first number."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.cell, self.head = nn.Linear(inputs + width, width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        last = []
        for steps in x:
            h = steps.new_zeros(self.head.in_features)
            for step in steps[: int(steps[0, 0].item())]:
                h = torch.tanh(self.cell(torch.cat([step, h])))
            last.append(h)
        return self.head(torch.stack(last))


class Experts(nn.Module):
    """Each sample to the expert that a router picks, gathered by a mask."""

    def __init__(self, inputs: int, width: int, outputs: int, experts: int) -> None:
        super().__init__()
        self.router, self.head = nn.Linear(inputs, experts), nn.Linear(inputs, outputs)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, inputs))
            for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.router(x), -1)
        chosen, mixed = weights.argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            mine = chosen == number
            mixed[mine] = weights[mine, number, None] * expert(x[mine])
        return self.head(x + mixed)


class Latent(nn.Module):
    """The likelihood of a Gaussian process, with the places of its samples among the parameters."""

    def __init__(self, points: int, size: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(points, size))
        self.scales = nn.Parameter(torch.zeros(size))
        self.noise = nn.Parameter(torch.tensor(-1.0))

    def forward(self, y: Tensor) -> Tensor:
        x = self.places * self.scales.exp()
        squares = (x * x).sum(1)
        distances = squares[:, None] + squares - 2 * x @ x.mT
        covariance = (-0.5 * distances).exp() + self.noise.exp() * torch.eye(len(x)).to(x)
        factor = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(factor, y, upper=False)
        return 0.5 * (white**2).mean() + factor.diagonal().log().mean()


def normed_in_training(channels: int, features: int, classes: int) -> nn.Module:
    """Convolutions with batch norms over the batch at hand, which couple its samples."""
    first, second = nn.Conv2d(1, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, 2, 1)
    return nn.Sequential(
        *(
            first,
            nn.BatchNorm2d(channels, track_running_stats=False),
            nn.Tanh(),
            second,
            nn.BatchNorm2d(channels, track_running_stats=False),
            nn.Tanh(),
        ),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(features, classes)),
    )
