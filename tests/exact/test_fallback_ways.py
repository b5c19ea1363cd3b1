"""What `torch.export` refuses, or what couples samples: by one-sided products where those can be
traced, else from one gradient that is kept; each held against double backward in float64."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import hesse
from hesse.derivatives import KeptGradient, TensorFunction
from hesse.exact import columns, part_planning
from hesse.process.rehearsal import Rehearsal
from networks import Lambda, dense
from reference import relative

Function: Any = torch.autograd.Function
Forward = Callable[[nn.ModuleList, Tensor], Tensor]
# How many ways are left where the products are traced, from a kept gradient side by side, or one
# by one.
TRACED, KEPT, SINGLY = 3, 2, 1


class Cube(Function):
    """u³, as `torch.func` wants it, with its forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor) -> Tensor:
        return u**3

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * 3 * ctx.saved_tensors[0] ** 2

    @staticmethod
    def jvp(ctx: Any, t: Tensor) -> Tensor:
        return t * 3 * ctx.saved_tensors[0] ** 2


class OldCube(Function):
    """The same as it was written before."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return u**3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * 3 * ctx.saved_tensors[0] ** 2


class CubeOfCubes(OldCube):
    """The same, with a slope of another function of this kind, which looks at a value on its way
    back: several at once have none."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return _Slope.apply(g, *ctx.saved_tensors)


class _Slope(Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(g, u)
        return g * 3 * u**2

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor]:
        g, u = ctx.saved_tensors
        largest = float(v.abs().max())
        return v * 3 * u**2, v * g * 6 * u if largest else torch.zeros_like(u)


def branch(m: nn.ModuleList, x: Tensor) -> Tensor:
    h = m[0](x)
    return m[1](torch.tanh(h) if h.abs().mean().item() > 0.1 else h - h.mean(0))


def loop(m: nn.ModuleList, x: Tensor) -> Tensor:
    z, moved = torch.zeros(len(x), 3).to(x), 1.0
    while moved > 1e-2:
        before, z = z, torch.tanh(m[0](x) + 0.3 * z)
        moved = float((z - before).detach().abs().max())
    return m[1](z)


def own(function: Any) -> Forward:
    return lambda m, x: m[1](function.apply(m[0](x)))


def derivative(m: nn.ModuleList, x: Tensor) -> Tensor:
    """By `torch.func`, forward mode over reverse mode, at the places that a mask leaves."""

    def u(point: Tensor) -> Tensor:
        return m[1](torch.tanh(m[0](point)))[0]

    bends, left = torch.zeros_like(x), x[:, 0] > 0
    bends[left] = torch.func.vmap(torch.func.jacfwd(torch.func.grad(u)))(x[left]).sum(1)
    return bends


def forces(m: nn.ModuleList, x: Tensor) -> Tensor:
    with torch.enable_grad():
        place = x.detach().clone().requires_grad_()
        energy = m[1](torch.tanh(m[0](place)))[:, 0].sum()
        return torch.autograd.grad(energy, place, create_graph=True)[0]


def recomputed(m: nn.ModuleList, x: Tensor) -> Tensor:
    h: Any = checkpoint(lambda x: torch.tanh(m[0](x)), x, use_reentrant=False)
    return m[1](h - h.mean(0))


def waves(m: nn.ModuleList, x: Tensor) -> Tensor:
    return m[1](torch.tanh(torch.fft.irfft(torch.fft.rfft(m[0](x)) * (1 + 2j), n=3)))


def lengths(m: nn.ModuleList, x: Tensor) -> Tensor:
    last = []
    for row in x:
        h = torch.zeros(3).to(x)
        for _ in range(1 + int(row[0].item() > 0)):
            h = torch.tanh(m[0](row) + h)
        last.append(h)
    return m[1](torch.stack(last))


def experts(m: nn.ModuleList, x: Tensor) -> Tensor:
    mixed = torch.zeros(len(x), 3).to(x)
    left = x[:, 0] > 0
    mixed[left] = torch.tanh(m[0](x[left]))
    mixed[~left] = torch.sin(m[0](x[~left]))
    return m[1](mixed)


def normed(m: nn.ModuleList, x: Tensor) -> Tensor:
    return m[1](F.batch_norm(m[0](x), None, None, training=True))


def likelihood(m: nn.ModuleList, x: Tensor) -> Tensor:
    h = torch.tanh(m[0](x))
    factor = torch.linalg.cholesky(h @ h.mT + torch.eye(len(x)).to(x))
    return m[1](torch.linalg.solve_triangular(factor, h, upper=False))


class Refused(NamedTuple):
    """A model of two layers, and the way that its products go."""

    name: str
    forward: Forward
    way: int
    function: bool = False


MODELS = [
    Refused("branch", branch, TRACED),
    Refused("loop", loop, TRACED),
    Refused("own function", own(Cube), TRACED, function=True),
    Refused("old function", own(OldCube), TRACED),
    Refused("function of functions", own(CubeOfCubes), SINGLY),
    Refused("torch.func", derivative, KEPT),
    Refused("autograd.grad", forces, TRACED),
    Refused("checkpoint", recomputed, TRACED),
    Refused("complex", waves, TRACED),
    Refused("lengths", lengths, TRACED),
    Refused("experts", experts, KEPT),
    Refused("batch norm", normed, TRACED),
    Refused("likelihood", likelihood, TRACED, function=True),
]


def made(refused: Refused) -> tuple[hesse.Cost, Tensor]:
    """A cost, and its Hessian by double backward row by row."""
    torch.manual_seed(0)
    model = Lambda(refused.forward, nn.Linear(3, 3), nn.Linear(3, 2)).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    y = torch.randn(model(x).shape, dtype=torch.float64)
    leaves = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}

    def J(parameters: dict[str, Tensor]) -> Tensor:
        return F.mse_loss(torch.func.functional_call(model, parameters, (x,)), y)

    options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    slopes = torch.autograd.grad(J(leaves), [*leaves.values()], create_graph=True, **options)
    entries = torch.cat([slope.flatten() for slope in slopes])
    rows = [
        torch.autograd.grad(entry, [*leaves.values()], retain_graph=True, **options)
        if entry.requires_grad
        else [torch.zeros_like(leaf) for leaf in leaves.values()]
        for entry in entries
    ]
    expected = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    if refused.function:
        values = {name: leaf.detach() for name, leaf in leaves.items()}
        return hesse.Cost.from_function(J, values), expected
    return hesse.Cost(model, "mse", (x, y)), expected


@pytest.mark.parametrize("refused", MODELS, ids=[refused.name for refused in MODELS])
def test_it_goes_the_way_said(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_planning, "_PRODUCTS_OF_A_TRACE", 0)
    cost, expected = made(refused)
    (part,) = hesse.plan(cost).parts
    assert part.capture is None and part.traced == (refused.way == TRACED)
    assert relative(hesse.hessian(cost, certify=False).dense(), expected) < 1e-10
    ways = {way for key, way in cost.captures["columns"].items() if "layers.0.weight" in key[1]}
    assert (ways or {SINGLY}) == {refused.way}
    assert relative(hesse.hessian(cost).dense(), expected) < 1e-10
    entries = hesse.diagonal(cost, certify=False)
    assert relative(cost.layout.flatten(entries), expected.diagonal()) < 1e-10
    v = torch.randn(cost.layout.size, dtype=torch.float64)
    assert relative(hesse.operator(cost) @ v, expected @ v) < 1e-10


def test_one_gradient_serves_all_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model runs once for all rows."""
    runs = list[int]()

    def counted(m: nn.ModuleList, x: Tensor) -> Tensor:
        runs.append(len(x))
        return experts(m, x)

    cost, expected = made(Refused("counted", counted, KEPT))
    # Beside other threads an export that failed is tried once more.
    for _ in range(3):
        hesse.hessian(cost, certify=False)
    runs.clear()
    assert relative(hesse.hessian(cost, certify=False).dense(), expected) < 1e-10
    assert runs == [6]


def test_nothing_is_computed_before_the_parameter() -> None:
    """Of a network of four layers the rows of the top one's own block cost a fraction of all."""
    model, x = dense(8, 8, 8, 8, 8).double(), torch.randn(20, 8).double()
    names, theta = zip(*model.named_parameters(), strict=True)

    def J(theta: list[Tensor]) -> Tensor:
        named = dict(zip(names, theta, strict=True))
        return torch.func.functional_call(model, named, (x,)).square().sum()

    kept = KeptGradient(TensorFunction(J), list(theta))
    assert kept.order == list(range(8)) and kept.passed > 0
    spent = []
    for place, asked in ((0, range(8)), (6, (6, 7))):
        v = torch.randn(3, 8, 8, dtype=torch.float64)
        with Rehearsal(shapes_only=False) as counts:
            together = kept.side_by_side([place], asked, [v])
        spent.append(counts.price.operations)
        for part, other in zip(together, kept.one_by_one([place], asked, [v]), strict=True):
            assert torch.allclose(part, other, atol=1e-12)
    assert spent[1] < spent[0] / 5


def test_the_order_is_that_of_use() -> None:
    """Also where parameters are not declared in that order, or one of them is not used."""

    def f(theta: list[Tensor]) -> Tensor:
        last, _unused, first = theta
        return (first.sin() * 2).exp() @ last

    theta = [torch.randn(3, dtype=torch.float64) for _ in range(3)]
    kept = KeptGradient(TensorFunction(f), theta)
    assert kept.order == [2, 0, 1]
    eye = torch.eye(3, dtype=torch.float64)
    H = torch.autograd.functional.hessian(lambda *t: f(list(t)), tuple(theta))
    for moving in range(3):
        for part, block in zip(kept.side_by_side([moving], range(3), [eye]), H, strict=True):
            assert torch.allclose(part, block[moving].mT, atol=1e-12)
    both = kept.side_by_side([2, 0], [2], [eye, 2 * eye])[0]
    assert torch.allclose(both, H[2][2] + 2 * H[2][0].mT, atol=1e-12)


def test_products_that_cannot_be_watched_have_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what they pass back, which is known without making one."""
    monkeypatch.setattr(part_planning, "_PRODUCTS_OF_A_TRACE", 1000)
    cost, _ = made(Refused("torch.func", derivative, KEPT))
    planned = hesse.plan(cost)
    widths = planned.parts[0].widths.values()
    assert not planned.parts[0].traced and widths and min(widths) > 1
    assert planned.price.moved > 0 and max(widths) <= columns.WIDEST
