"""Everything of the table on a GPU, against the numbers of double backward on the CPU in
float64."""

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import hesse
from cases import CASES, Case, Problem
from hesse.products.linearize import StraightLine
from hesse.products.replay import Replay
from networks import dense
from reference import expected_hessian, relative

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no GPU that PyTorch can use"
)

GPU = torch.device("cuda")


def moved(tree: Any) -> Any:
    """Every tensor in a nest of them on the GPU; modules are moved in place."""
    return pytree.tree_map(
        lambda leaf: leaf.to(GPU) if isinstance(leaf, Tensor | nn.Module) else leaf, tree
    )


def moved_back(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: part.cpu() for name, part in parts.items()}


def on_gpu(case: Case, data: bool = True) -> hesse.Cost:
    """The row's cost with its model, or parameters, on the GPU; its data there, or left on the
    CPU."""
    problem = case.problem()
    kept = moved(problem.data) if data else problem.data
    own = problem.params if isinstance(problem.model, nn.Module) else moved(problem.params)
    return Problem(moved(problem.model), moved(problem.loss), kept, own, problem.penalty).cost()


def cases(*names: str) -> list[Case]:
    return [case for case in CASES if case.name in names]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hessian(case: Case) -> None:
    made = hesse.hessian(on_gpu(case))
    assert made.dense().device.type == "cuda"
    assert relative(made.dense().cpu(), expected_hessian(case)) < 1e-10
    assert made.certificate is not None and made.certificate.deviation < 1e-9


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_plan_is_the_same(case: Case) -> None:
    plan, expected = hesse.plan(on_gpu(case)), hesse.plan(case.problem().cost())
    # cuDNN's layers use their parameters in an order of their own.
    assert (plan.captured, set(plan.by_columns)) == (expected.captured, set(expected.by_columns))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_diagonal(case: Case) -> None:
    cost, expected = on_gpu(case), expected_hessian(case).diagonal()
    assert relative(cost.layout.flatten(dict(hesse.diagonal(cost))).cpu(), expected) < 1e-10


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operator(case: Case) -> None:
    cost, expected = on_gpu(case), expected_hessian(case)
    op = hesse.operator(cost)
    identity = torch.eye(len(expected), dtype=torch.float64, device=GPU)
    assert relative((op @ identity).cpu(), expected) < 1e-10
    # The first is started operation by operation, the others are replayed.
    directions = torch.randn(3, len(expected), dtype=torch.float64)
    for v in directions:
        assert relative((op @ v.to(GPU)).cpu(), expected @ v) < 1e-10
    v = directions[0]
    assert relative(torch.from_numpy(op.to_scipy() @ v.numpy()), expected @ v) < 1e-10


@pytest.mark.parametrize("case", CASES, ids=str)
def test_data_on_the_cpu_are_moved(case: Case) -> None:
    if isinstance(case.problem().model, nn.Module):
        cost, expected = on_gpu(case, data=False), case.problem().cost()
        assert hesse.value(cost) == pytest.approx(hesse.value(expected), rel=1e-10)
        found, slopes = hesse.gradient(cost), hesse.gradient(expected)
        assert all(slope.device.type == "cuda" for slope in found.values())
        assert relative(*(expected.layout.flatten(moved_back(g)) for g in (found, slopes))) < 1e-10


def classifier(dtype: torch.dtype) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = dense(32, 64, 10)
    data = (
        torch.randn(256, 32, generator=random).to(dtype),
        torch.randint(10, (256,), generator=random),
    )
    return model.to(dtype), data


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_float32_says_whether_tf32_is_on(precision: str) -> None:
    model, data = classifier(torch.float64)
    exact = hesse.hessian(hesse.Cost(model, "cross_entropy", data)).dense()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        model, data = classifier(torch.float32)
        cost = hesse.Cost(model.to(GPU), "cross_entropy", data)
        for made in (hesse.hessian(cost), hesse.operator(cost), hesse.diagonal(cost)):
            assert made.certificate is not None
            notes = " ".join(made.certificate.notes)
            assert ("TF32 is off for matrix products" in notes) == (precision == "highest")
        tolerance = 1e-4 if precision == "highest" else 2e-2
        assert relative(hesse.hessian(cost).dense().cpu().double(), exact) < tolerance
    finally:
        torch.set_float32_matmul_precision(before)


def test_nothing_is_said_of_tf32_in_float64() -> None:
    model, data = classifier(torch.float64)
    certificate = hesse.operator(hesse.Cost(model.to(GPU), "cross_entropy", data)).certificate
    assert certificate is not None and "TF32" not in str(certificate)


def test_a_stream_of_ones_own() -> None:
    model, data = classifier(torch.float64)
    cost = hesse.Cost(model.to(GPU), "cross_entropy", data)
    expected = hesse.hessian(cost).dense()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found, product = hesse.hessian(cost).dense(), hesse.operator(cost) @ cost.theta
    torch.cuda.current_stream().wait_stream(stream)
    assert relative(found, expected) < 1e-12 and relative(product, expected @ cost.theta) < 1e-12


def test_threads() -> None:
    model, data = classifier(torch.float64)
    cost = hesse.Cost(model.to(GPU), "cross_entropy", data)
    expected, found = hesse.hessian(cost).dense(), list[Tensor]()
    threads = [
        threading.Thread(target=lambda: found.append(hesse.hessian(cost).dense())) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and all(relative(each, expected) < 1e-12 for each in found)


def replaying() -> tuple[hesse.HessianOperator, Tensor]:
    """An operator whose products are replayed, and its matrix."""
    model, data = classifier(torch.float64)
    cost = hesse.Cost(model.to(GPU), "cross_entropy", data)
    op = hesse.operator(cost)
    for _ in range(2):
        _ = op @ cost.theta
    (linear,) = op._kept.batches
    assert isinstance(linear, StraightLine) and linear._replayed is not None
    assert linear.bytes >= linear._replayed.bytes > 0
    return op, hesse.hessian(cost).dense()


def test_replays_in_threads_and_streams() -> None:
    """Each result is its own, whoever asks next."""
    op, H = replaying()
    directions = torch.randn(12, len(H), dtype=torch.float64, device=GPU)
    torch.cuda.synchronize()
    found = dict[int, Tensor]()

    def multiply(first: int) -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for k in range(first, 12, 3):
                found[k] = op @ directions[k]
        stream.synchronize()

    threads = [threading.Thread(target=multiply, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert all(relative(found[k], H @ directions[k]) < 1e-12 for k in found)


def test_two_operators_replay_in_one_workspace() -> None:
    (first, H), (second, _) = replaying(), replaying()
    v, w = torch.randn(2, len(H), dtype=torch.float64, device=GPU)
    products = first @ v, second @ w, first @ w
    for product, direction in zip(products, (v, w, w), strict=True):
        assert relative(product, H @ direction) < 1e-12


def test_what_waits_for_a_number_is_not_replayed() -> None:
    v = torch.ones(3, device=GPU)
    with pytest.raises(RuntimeError):
        Replay(lambda parts: [parts[0] * float(parts[0].sum())], [v])
    assert Replay(lambda parts: [2 * parts[0]], [v])([v + 1])[0].tolist() == [4.0] * 3


def test_the_gpu_as_default_device() -> None:
    case = CASES[0]
    host = case.problem()
    torch.set_default_device(GPU)
    try:
        cost = hesse.Cost(
            dense(3, 4, 2).to(torch.float64),
            "mse",
            (torch.randn(5, 3).double(), torch.randn(5, 2).double()),
        )
        assert (
            hesse.hessian(cost).dense()
            - hesse.operator(cost) @ torch.eye(cost.layout.size).double()
        ).norm() < 1e-12
        made = hesse.hessian(
            Problem(host.model, host.loss, host.data, host.params, host.penalty).cost()
        ).dense()
    finally:
        torch.set_default_device(None)
    assert made.device.type == "cpu" and relative(made, expected_hessian(case)) < 1e-10


def test_several_devices_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].to(GPU)
    with pytest.raises(hesse.HesseError, match="several devices"):
        hesse.Cost(model, "mse", (torch.randn(4, 3), torch.randn(4, 2)))
    cost = hesse.Cost(dense(3, 4, 2).to(GPU), "mse", (torch.randn(4, 3), torch.randn(4, 2)))
    with pytest.raises(hesse.HesseError, match="expected a tensor on cuda"):
        _ = hesse.operator(cost) @ torch.ones(cost.layout.size)


@pytest.mark.parametrize(
    "method", ["trust-exact", "cubic", "trust-krylov", "trust-ncg", "Newton-CG"]
)
def test_minimize(method: str) -> None:
    model, data = classifier(torch.float64)
    result = hesse.minimize(
        hesse.Cost(model.to(GPU), "cross_entropy", data, penalty=0.1), method, tolerance=1e-6
    )
    expected = hesse.minimize(
        hesse.Cost(classifier(torch.float64)[0], "cross_entropy", data, penalty=0.1),
        method,
        tolerance=1e-6,
    )
    assert result.success and result.fun == pytest.approx(expected.fun, rel=1e-6)
    assert all(value.device.type == "cuda" for value in result.parameters.values())


def test_the_model_stays_where_it_is_and_a_file_is_read_back(tmp_path: Any) -> None:
    model, data = classifier(torch.float32)
    made = hesse.hessian(hesse.Cost(model.to(GPU), "cross_entropy", data), block_diagonal=True)
    assert all(p.device.type == "cuda" and p.grad is None for p in model.parameters())
    made.save(tmp_path / "h.safetensors")
    loaded = hesse.load(tmp_path / "h.safetensors")
    assert all(torch.equal(loaded.flat(a, b).cpu(), made.flat(a, b).cpu()) for a, b in made.pairs)
    q = hesse.quadratic(hesse.Cost(model, "cross_entropy", data, penalty=1.0))
    assert torch.isfinite(torch.as_tensor(q.newton(damping=1.0).predicted))
