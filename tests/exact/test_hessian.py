"""The Hessian against automatic differentiation of the user's own model: every row of the table,
every block."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn

import hesse
from cases import CASES, Case, Problem, cost_of, dense, hessian_of
from hesse.exact.fallback import failures
from reference import expected_hessian, hessian, relative, whole

TOLERANCE = 1e-10

every_case = pytest.mark.parametrize("case", CASES, ids=str)
by_name = {case.name: case for case in CASES}


@every_case
def test_full(case: Case) -> None:
    assert relative(hessian_of(case).dense(), expected_hessian(case)) < TOLERANCE


@every_case
def test_is_exactly_symmetric(case: Case) -> None:
    matrix = hessian_of(case).dense()
    assert torch.equal(matrix, matrix.T)


@every_case
def test_every_block(case: Case) -> None:
    H, expected, layout = hessian_of(case), expected_hessian(case), cost_of(case).layout
    for a, b in itertools.product(layout.names, repeat=2):
        block = expected[layout.slice(a), layout.slice(b)].reshape(
            layout.shape(a) + layout.shape(b)
        )
        assert relative(H[a, b], block, expected) < TOLERANCE, (a, b)


@every_case
def test_chosen_pairs_are_blocks_of_the_whole(case: Case) -> None:
    names = cost_of(case).layout.names
    pairs = [(names[-1], names[0]), (names[0], names[0])]
    some, H = hesse.hessian(cost_of(case), pairs=pairs), hessian_of(case)
    for a, b in pairs:
        assert relative(some[a, b], H[a, b], H.dense()) < TOLERANCE
        assert relative(some[b, a], H[b, a], H.dense()) < TOLERANCE


@every_case
def test_block_diagonal(case: Case) -> None:
    some, H = hesse.hessian(cost_of(case), block_diagonal=True), hessian_of(case)
    for name in cost_of(case).layout.names:
        assert relative(some[name, name], H[name, name], H.dense()) < TOLERANCE


@every_case
def test_diagonal_of_the_blocks(case: Case) -> None:
    expected = expected_hessian(case)
    found = cost_of(case).layout.flatten(hessian_of(case).diagonal())
    assert relative(found, expected.diagonal(), expected) < TOLERANCE


@pytest.mark.parametrize(
    "name",
    [
        "dense tanh",
        "conv2d average pooling",
        "transformer, causal mask",
        "batch norm train",
        "lstm",
    ],
)
def test_chunks_of_samples_change_nothing(name: str) -> None:
    cost, H = cost_of(by_name[name]), hessian_of(by_name[name])
    chunks = set()
    for memory in (1, 10**5, 10**6):
        chunks.add(hesse.plan(cost, memory=memory).chunk)
        assert relative(hesse.hessian(cost, memory=memory).dense(), H.dense()) < TOLERANCE
    assert len(chunks) > 1 or not by_name[name].captured


@pytest.mark.some(of=4)
@pytest.mark.parametrize("case", [case for case in CASES if case.captured], ids=str)
def test_one_sample_at_a_time_falls_back_nowhere(case: Case) -> None:
    """A way that fails for a chunk of one sample is left for good, and nobody hears of it."""
    cost, H = cost_of(case), hessian_of(case)
    alone = hesse.hessian(cost, memory=1, certify=False)
    assert relative(alone.dense(), H.dense()) < TOLERANCE and not failures(cost)


@every_case
def test_falls_back_nowhere(case: Case) -> None:
    H = hessian_of(case)
    assert H.dense().isfinite().all() and not (case.captured and failures(cost_of(case)))


def test_asking_twice_gives_the_same_numbers() -> None:
    cost = cost_of(CASES[0])
    assert torch.equal(hesse.hessian(cost).dense(), hesse.hessian(cost).dense())


def test_at_other_parameters() -> None:
    case = by_name["three layers"]
    cost, problem = cost_of(case), case.problem()
    moved = cost.theta + 0.1
    with torch.no_grad():
        nn.utils.vector_to_parameters(moved, problem.model.parameters())
    assert (
        relative(hesse.hessian(cost.at(moved)).dense(), hessian(problem, cost.layout.names))
        < TOLERANCE
    )


def single(model: nn.Module, data: Any) -> tuple[nn.Module, Any]:
    X, y = whole(data)
    return model.float(), (
        X.float() if X.is_floating_point() else X,
        y.float() if y.is_floating_point() else y,
    )


@pytest.mark.parametrize(
    "name",
    ["dense tanh", "conv2d average pooling", "transformer, causal mask", "layer norm", "lstm"],
)
def test_in_float32(name: str) -> None:
    problem = by_name[name].problem()
    model, data = single(problem.model, problem.data)
    H = hesse.hessian(hesse.Cost(model, problem.loss, data)).dense()
    assert H.dtype == torch.float32
    assert relative(H.double(), expected_hessian(by_name[name])) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_parameters_are_computed_in_float32(dtype: torch.dtype) -> None:
    torch_state = torch.Generator().manual_seed(1)
    X, y = (torch.randn(6, n, generator=torch_state).to(dtype) for n in (3, 2))
    model = dense(3, 4, 2).to(dtype)
    H = hesse.hessian(hesse.Cost(model, "half_sse", (X, y)))
    assert H.dense().dtype == torch.float32
    wide = hesse.hessian(hesse.Cost(model.float(), "half_sse", (X.float(), y.float())))
    assert torch.equal(H.dense(), wide.dense())


def test_a_cost_made_anew_is_not_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = by_name["cross entropy class weights"].problem()
    first = hesse.hessian(problem.cost())
    monkeypatch.setattr(torch.export, "export", None)
    with torch.no_grad():
        problem.model[0].weight.add_(0.1)
    again = hesse.hessian(hesse.Cost(problem.model, copy.deepcopy(problem.loss), problem.data))
    assert relative(again.dense(), hessian(problem, again.layout.names)) < TOLERANCE
    assert not torch.equal(again.dense(), first.dense())


def test_the_two_layer_network_of_the_question() -> None:
    """H = [[a, b], [b, c]] of J = 1/2 (y − f(W2 f(W1 x)))², one number each, against the formula by
    hand."""
    w1, w2, x, y = torch.tensor([0.7, -1.3, 0.9, 0.4], dtype=torch.float64)
    model: Any = dense(1, 1, 1, bias=False).double()
    with torch.no_grad():
        model[0].weight.fill_(w1)
        model[2].weight.fill_(w2)
    H = hesse.hessian(hesse.Cost(model, "half_sse", (x.reshape(1, 1), y.reshape(1, 1))))
    a = torch.tanh(w1 * x)
    slope, bend, error = 1 - a**2, -2 * a * (1 - a**2), w2 * a - y
    expected = {
        ("0.weight", "0.weight"): (w2 * slope * x) ** 2 + error * w2 * bend * x**2,
        ("0.weight", "2.weight"): w2 * slope * x * a + error * slope * x,
        ("2.weight", "2.weight"): a**2,
    }
    for pair, block in expected.items():
        assert abs(float(H[pair]) - float(block)) < 1e-14


def test_scalar_parameters_have_scalar_blocks() -> None:
    cost = hesse.Cost.from_function(
        lambda p: p["u"] ** 3 * p["v"], {"u": torch.tensor(2.0), "v": torch.tensor(5.0)}
    )
    H = hesse.hessian(cost)
    assert H["u", "u"].shape == () and H["u", "u"].item() == 60.0
    assert H["u", "v"].item() == 12.0 and H["v", "v"].item() == 0.0


def test_weight_norm_is_right_where_torch_is_not() -> None:
    """The double backward of torch's fused weight norm is wrong (2.13), so the reference here is
    the formula g v / ‖v‖."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, X, y = (
            dense(3, 4, 2).double(),
            torch.randn(6, 3).double(),
            torch.randn(6, 2).double(),
        )
    nn.utils.parametrizations.weight_norm(model[0])

    def by_formula(params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        g, v = (params[f"0.parametrizations.weight.original{place}"] for place in (0, 1))
        hidden = torch.tanh(
            x @ (g * v / v.square().sum(1, keepdim=True).sqrt()).T + params["0.bias"]
        )
        return hidden @ params["2.weight"].T + params["2.bias"]

    cost = hesse.Cost(model, "half_sse", (X, y))
    expected = hessian(
        Problem(by_formula, "half_sse", (X, y), params=cost.parameters), cost.layout.names
    )
    assert relative(hesse.hessian(cost).dense(), expected) < TOLERANCE
    assert (
        relative(hesse.operator(cost) @ torch.eye(len(expected), dtype=torch.float64), expected)
        < TOLERANCE
    )


def test_a_padding_row_of_an_embedding_has_no_derivatives() -> None:
    """As torch says: the vector at ``padding_idx`` does not contribute to the gradient."""
    model = nn.Sequential(
        nn.Embedding(4, 2, padding_idx=1), nn.Tanh(), nn.Flatten(), nn.Linear(4, 2)
    ).double()
    cost = hesse.Cost(
        model, "half_sse", (torch.tensor([[0, 1], [1, 2], [3, 3]]), torch.ones(3, 2).double())
    )
    block = hesse.hessian(cost)["0.weight", "3.weight"]
    assert not block[1].any() and all(block[row].any() for row in (0, 2, 3))


OPTIONS = {
    "class weights": (
        lambda w: nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, w], dtype=torch.float64)),
        1.0,
        9.0,
    ),
    "ignored class": (lambda index: nn.CrossEntropyLoss(ignore_index=index), -100, 2),
    "function": (
        lambda w: lambda p, y: ((y == 2) * w * p[:, 0] ** 2).sum() + p.square().sum(),
        1.0,
        9.0,
    ),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_another_loss_that_differs_on_late_samples_only(options: tuple[Any, Any, Any]) -> None:
    """Whatever is kept from one cost of a module must not serve another cost of it that is
    different."""
    make, first, second = options
    generator = torch.Generator().manual_seed(0)
    X, y = torch.randn(20, 3, generator=generator, dtype=torch.float64), torch.arange(20) % 2
    y[-2:] = 2
    model = dense(3, 2, 3).double()
    kept = hesse.hessian(hesse.Cost(model, make(first), (X, y))).dense()
    after = hesse.hessian(hesse.Cost(model, make(second), (X, y)))
    fresh = hesse.hessian(hesse.Cost(copy.deepcopy(model), make(second), (X, y)))
    assert relative(after.dense(), fresh.dense()) < TOLERANCE
    assert relative(kept, fresh.dense()) > 1e-3
