"""What each sample brings: against double backward of that sample alone, and summed against that of
all data."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, TensorDataset

import hesse
import networks as nets
from cases import CASES, Case, Problem, cost_of, x
from hesse.cost import Cost
from hesse.errors import HesseMemoryError, HesseValueError
from hesse.exact.contraction import by_sample
from hesse.parameters import as_leaves
from hesse.samples import gradients, per_sample, quantities
from reference import expected_hessian, gradient, joined, parameters, relative

COUPLED = {
    "batch norm train": "cannot take a sample alone",
    "batch norm 2d train": "its samples are not independent",
    "model that couples its samples": "its samples are not independent",
    "loss that couples its samples": "the loss couples its samples",
    "rosenbrock": "it has no data",
}
APART = [case for case in CASES if case.name not in COUPLED]


def of_one(cost: Cost, batch: Any) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian of a sample's share of a cost, by double backward."""
    leaves = as_leaves(cost.parameters)
    with cost.holding(leaves), sdpa_kernel(SDPBackend.MATH):
        share, every = cost.batch_cost(leaves, batch), list(leaves.values())
        options: dict[str, Any] = {"allow_unused": True}
        slope = joined(torch.autograd.grad(share, every, create_graph=True, **options), every)
        rows = [
            joined(torch.autograd.grad(entry, every, retain_graph=True, **options), every)
            if entry.requires_grad
            else torch.zeros_like(slope)
            for entry in slope
        ]
    return slope.detach(), torch.stack(rows)


def chosen_samples(cost: Cost) -> list[tuple[int, Any]]:
    """The first sample of every batch, and the last of all."""
    found, start, last = [], 0, None
    for batch in cost.batches():
        assert batch is not None
        found.append((start, batch.take(slice(0, 1))))
        start += batch.size
        last = batch.take(slice(batch.size - 1, batch.size))
    return [*found, (start - 1, last)]


def flat(parts: dict[str, Tensor], n: int) -> Tensor:
    return torch.cat([part[n].reshape(-1) for part in parts.values()])


@pytest.mark.some(of=4)
@pytest.mark.parametrize("case", APART, ids=str)
def test_samples_alone_and_together(case: Case) -> None:
    cost = cost_of(case)
    g = hesse.per_sample(cost, certify=False).stack()
    made = hesse.per_sample(cost, "diagonal")
    d, H = made.stack(), {}
    # Blocks, which take longest, of every other row.
    if APART.index(case) % 2 == 0:
        H = hesse.per_sample(cost, "hessian", certify=False).stack()
    assert made.certificate is not None and made.certificate.deviation < 1e-9
    assert made.certificate.samples == cost.samples
    slow = [note for note in made.notes if note.startswith("sample by sample")]
    assert bool(slow) == (not case.captured), slow
    layout = cost.layout
    scale = expected_hessian(case).abs().max() / cost.samples
    for n, sample in chosen_samples(cost):
        slope, dense = of_one(cost, sample)
        assert relative(flat(g, n), slope, slope.abs().max() + 1e-12) < 1e-9
        scale = torch.maximum(scale, dense.abs().max())
        assert relative(flat(d, n), dense.diagonal(), scale) < 1e-9
        for (a, b), block in H.items():
            part = block[n].reshape(layout.sizes[a], layout.sizes[b])
            assert relative(part, dense[layout.slice(a), layout.slice(b)], scale) < 1e-9
    if cost.penalty is not None:
        return
    problem = case.problem()
    whole = gradient(problem, layout.names, parameters(problem, layout.names))
    assert relative(sum(flat(g, n) for n in range(cost.samples)), whole) < 1e-9  # type: ignore[arg-type]
    expected = expected_hessian(case)
    assert (
        relative(flat({k: v.sum(0)[None] for k, v in d.items()}, 0), expected.diagonal(), expected)
        < 1e-9
    )
    for (a, b), block in H.items():
        part = block.sum(0).reshape(layout.sizes[a], layout.sizes[b])
        assert relative(part, expected[layout.slice(a), layout.slice(b)], expected) < 1e-9


@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.parametrize("what", ["gradient", "hessian"])
def test_samples_that_have_no_share_of_their_own(name: str, what: str) -> None:
    cost = cost_of(next(case for case in CASES if case.name == name))
    with pytest.raises(HesseValueError, match=COUPLED[name]):
        hesse.per_sample(cost, what)


def dense_cost(loss: Any = "mse", n: int = 7, f: Callable[..., Any] = x) -> Cost:
    torch.manual_seed(0)
    return Problem(nets.dense(3, 4, 2).double(), loss, (f(n, 3), f(n, 2))).cost()


def test_pieces_are_those_of_the_memory_given() -> None:
    cost = dense_cost()
    whole = hesse.per_sample(cost, "hessian").stack()
    parts = list(hesse.per_sample(cost, "hessian", memory=20_000))
    assert 1 < len(parts) <= 7 and sum(len(part["0.bias", "2.bias"]) for part in parts) == 7
    for pair, block in whole.items():
        assert torch.equal(torch.cat([part[pair] for part in parts]), block)
    assert [len(part["0.bias"]) for part in hesse.per_sample(cost, memory=0)] == [1] * 7


def test_blocks_that_are_asked_for() -> None:
    cost = dense_cost()
    found = hesse.per_sample(cost, "hessian", pairs=[("2.weight", "0.bias")]).stack()
    assert list(found) == [("0.bias", "2.weight")]
    assert found["0.bias", "2.weight"].shape == (7, 4, 2, 4)


def test_curvatures() -> None:
    """Of one sample the empirical Fisher matrix is the outer product of its gradient, by the
    divisor of the mean."""
    cost = dense_cost()
    g = hesse.per_sample(cost).stack()
    parts = {
        name: hesse.per_sample(cost, "hessian", curvature=name).stack()
        for name in ("hessian", "gauss_newton", "functional", "empirical_fisher")
    }
    for pair, block in parts["hessian"].items():
        assert relative(parts["gauss_newton"][pair] + parts["functional"][pair], block) < 1e-10
        a, b = (g[name].flatten(1) / cost.scale for name in pair)
        outer = cost.scale * (a.unsqueeze(2) * b.unsqueeze(1))
        assert relative(parts["empirical_fisher"][pair].reshape(outer.shape), outer) < 1e-10


def test_weights_of_samples_and_targets_that_are_left_out() -> None:
    torch.manual_seed(0)
    model, X, y = nets.dense(3, 4, 3).double(), x(6, 3), torch.randint(3, (6,))
    w = torch.tensor([0.0, 1.0, 2.0, 0.5, 1.0, 3.0]).double()
    weighed = hesse.per_sample(Cost(model, "cross_entropy", (X, y, w))).stack()
    plain = hesse.per_sample(Cost(model, "cross_entropy", (X, y))).stack()
    ignored = hesse.per_sample(
        Cost(model, "cross_entropy", (X, y.where(torch.arange(6) > 1, -100)))
    ).stack()
    for name, part in plain.items():
        shape = (6, *(1,) * (part.ndim - 1))
        assert relative(weighed[name], part * (6 * w / w.sum()).view(shape)) < 1e-12
        kept = (torch.arange(6) > 1).view(shape) * 6 / 4
        assert relative(ignored[name], part * kept) < 1e-12


def test_float32_beside_vmap_of_grad() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    X, y = torch.randn(9, 1, 6, 6), torch.randint(3, (9,))
    theta = {name: p.detach() for name, p in model.named_parameters()}

    def loss(theta: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(model, theta, (x[None],)), y[None])

    expected = vmap(grad(loss), (None, 0, 0))(theta, X, y)
    cost = Cost(model, "cross_entropy", [(X[:4], y[:4]), (X[4:], y[4:])])
    found = hesse.per_sample(cost)
    for name, part in found.stack().items():
        assert relative(part / cost.scale, expected[name]) < 1e-5
    assert "autograd" in str(found.certificate) and "gradients" in repr(found)
    assert all(p.grad is None for p in model.parameters())


def test_whatever_is_switched_on_around_the_loop() -> None:
    """A loader that makes its batches anew, read in inference mode."""
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(7, 3), torch.randn(7, 2))
    cost = Cost(nets.dense(3, 4, 2), "mse", DataLoader(data, batch_size=3, shuffle=True))
    expected = hesse.per_sample(cost).stack()
    with torch.inference_mode():
        found = hesse.per_sample(cost)
        stacked = found.stack()
    assert not any(note.startswith("sample by sample") for note in found.notes)
    assert all(torch.equal(stacked[name], part) for name, part in expected.items())


def test_a_batch_that_is_one_sample() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(3, 2).double()

        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            return self.lin(x)[edges].sum(0).sum(0)

    torch.manual_seed(0)
    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    data = [((x(4, 3), edges), x(2)), ((x(5, 3), edges), x(2))]
    cost = Cost(Graph(), "half_sse", data)
    found = hesse.per_sample(cost).stack()
    assert found["lin.weight"].shape == (2, 2, 3)
    assert relative(found["lin.weight"].sum(0), hesse.gradient(cost)["lin.weight"]) < 1e-12


@pytest.mark.parametrize("what", ["gradient", "diagonal", "hessian"])
@pytest.mark.parametrize("how", ["twice", "exchanged", "error"])
def test_what_is_wrong_is_made_again_sample_by_sample(
    what: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the sum is right, two samples being exchanged."""
    place, name = {
        "gradient": (gradients.GradientsAtSites, "_gradient"),
        "diagonal": (quantities, "entries_by_sample"),
        "hessian": (quantities, "blocks_by_sample"),
    }[what]
    right = getattr(place, name)

    def wrong(*arguments: Any) -> Tensor:
        found = right(*arguments)
        if how == "error":
            raise RuntimeError("no rule")
        return 2 * found if how == "twice" else found.flip(0)

    cost = dense_cost(n=2)
    expected = hesse.per_sample(cost, what).stack()
    monkeypatch.setattr(place, name, staticmethod(wrong) if what == "gradient" else wrong)
    found = hesse.per_sample(cost, what)
    stacked = found.stack()
    assert any(note.startswith("sample by sample: of the graph") for note in found.notes)
    assert all(relative(stacked[key], part) < 1e-9 for key, part in expected.items())


def test_entries_in_no_known_order_are_taken_from_their_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = next(case for case in CASES if case.name == "tied layers")
    expected = hesse.per_sample(cost_of(case), "diagonal").stack()

    def refused(*arguments: Any) -> None:
        raise RuntimeError("no rule for several")

    monkeypatch.setattr(by_sample, "vmap", lambda function: refused)
    found = hesse.per_sample(cost_of(case), "diagonal")
    assert all(relative(part, expected[name]) < 1e-12 for name, part in found.stack().items())


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = dense_cost()
    with pytest.raises(HesseValueError, match=r"what: expected one of 'gradient'.*got 'grad'"):
        hesse.per_sample(cost, "grad")
    with pytest.raises(HesseValueError, match="curvature: a gradient has none"):
        hesse.per_sample(cost, curvature="fisher")
    with pytest.raises(HesseValueError, match="pairs: 'diagonal' has no blocks"):
        hesse.per_sample(cost, "diagonal", pairs=[("0.bias", "0.bias")])
    monkeypatch.setattr(per_sample, "available_bytes", lambda device: 1000)
    with pytest.raises(HesseMemoryError, match=r"7 samples take .* iterate over the batches"):
        hesse.per_sample(cost, "hessian").stack()
