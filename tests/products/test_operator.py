"""What the operator promises beyond its values over the table of cases: methods, memory, kinds of
argument, error texts."""

import gc
import inspect
import json
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hesse
from hesse.errors import (
    HesseError,
    HesseKeyError,
    HesseMemoryError,
    HesseTypeError,
    HesseValueError,
)
from hesse.process.memory import available_bytes
from hesse.process.rehearsal import Rehearsal
from hesse.products import linearize as methods
from hesse.products import operator, planning, slabs
from hesse.products.linearized import LinearizedTerm
from hesse.products.planning import operator_plan
from hesse.products.terms import batch_term


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def data(samples: int = 12) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(samples, 3, generator=random).double(), torch.randint(
        2, (samples,), generator=random
    )


def direction(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=dtype)


@pytest.fixture
def cost() -> hesse.Cost:
    return hesse.Cost(network(), "cross_entropy", data(), penalty=0.1)


def dense(cost: hesse.Cost) -> Tensor:
    """H by `torch.func.hessian` of the flat cost."""

    def value(theta: Tensor) -> Tensor:
        parameters = cost.layout.unflatten(theta)
        return sum(
            (cost.batch_cost(parameters, batch) for batch in cost.batches()),
            start=cost.penalty_cost(parameters),
        )

    return torch.func.hessian(value)(cost.theta)


def agree(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> bool:
    return found.shape == expected.shape and bool(
        (found - expected).abs().max() <= tolerance * expected.abs().max()
    )


# ---------------------------------------------------------------- values


def test_vector_matrix_and_dictionary_agree_with_the_dense_hessian(cost: hesse.Cost) -> None:
    H, op, V = dense(cost), operator(cost), direction(26, 5)
    assert agree(op @ V[:, 0], H @ V[:, 0])
    assert agree(op @ V, H @ V)
    by_name = op @ cost.layout.unflatten(V[:, 1])
    assert {name: part.shape for name, part in by_name.items()} == {
        name: p.shape for name, p in cost.parameters.items()
    }
    assert agree(cost.layout.flatten(by_name), H @ V[:, 1])
    assert (op @ V[:, :0]).shape == (26, 0)


def test_central_difference_of_gradients(cost: hesse.Cost) -> None:
    v, h = direction(26), 1e-5
    up, down = (
        cost.layout.flatten(hesse.gradient(cost.at(cost.theta + sign * h * v))) for sign in (1, -1)
    )
    assert agree(operator(cost) @ v, (up - down) / (2 * h), 1e-8)


def test_the_transpose_and_the_description(cost: hesse.Cost) -> None:
    op = operator(cost)
    assert op.T is op
    assert (op.shape, op.dtype, op.layout, op.notes) == ((26, 26), torch.float64, cost.layout, ())
    assert str(op) == f"HessianOperator({cost}, float64)"
    said = " ".join(repr(op).split())
    assert "products straight line memory 1 of 1 batch kept in " in said


def test_results_are_detached_and_own_their_memory(cost: hesse.Cost) -> None:
    op, v = operator(cost), direction(26).requires_grad_()
    first = op @ v
    assert not first.requires_grad
    expected = first.clone()
    first.zero_()
    assert torch.equal(op @ v, expected)


def test_products_under_no_grad_and_inference_mode(cost: hesse.Cost) -> None:
    expected = dense(cost) @ direction(26)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert agree(operator(cost) @ direction(26), expected)


def test_the_model_and_the_random_state_are_left_alone() -> None:
    model, state = network(), torch.get_rng_state()
    _ = operator(hesse.Cost(model, "cross_entropy", data())) @ direction(26)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state()) and torch.is_grad_enabled()


def test_a_cost_linear_in_its_parameters_has_the_zero_operator() -> None:
    cost = hesse.Cost.from_function(
        lambda p: 3.0 * p["a"] + p["b"].sum(), {"a": torch.tensor(1.0), "b": torch.ones(2)}
    )
    assert torch.equal(operator(cost) @ torch.ones(3), torch.zeros(3))


def test_mixed_dtypes_come_back_as_they_are() -> None:
    parameters = {"a": torch.ones(2), "b": torch.ones(2, dtype=torch.float64)}
    op = operator(
        hesse.Cost.from_function(lambda p: (p["a"].double() * p["b"]).sum() ** 2, parameters)
    )
    assert op.dtype == torch.float64
    product = op @ {"a": torch.ones(2), "b": torch.zeros(2, dtype=torch.float64)}
    assert {name: part.dtype for name, part in product.items()} == {
        "a": torch.float32,
        "b": torch.float64,
    }


# ---------------------------------------------------------------- batches and memory


def test_batches_shuffled_or_not_and_any_memory_give_the_same_product() -> None:
    X, y = data(11)
    whole = operator(hesse.Cost(network(), "cross_entropy", (X, y))) @ direction(26)
    batches = list(zip(X.split(4), y.split(4), strict=True))
    loader = DataLoader(TensorDataset(X, y), batch_size=4, shuffle=True)
    for source in (batches, loader):
        cost = hesse.Cost(network(), "cross_entropy", source)
        for memory in (0, 5000, None):
            op = operator(cost, memory=memory)
            torch.rand(1)  # another random state, so another order in every pass of the loader
            assert agree(op @ direction(26), whole) and agree(
                op @ direction(26, 3), operator(cost) @ direction(26, 3)
            )


def test_what_does_not_fit_is_computed_again_and_said() -> None:
    X, y = data(12)
    cost = hesse.Cost(network(), "cross_entropy", list(zip(X.split(4), y.split(4), strict=True)))
    room = operator(cost).bytes
    some = operator(cost, memory=room)
    assert 0 < some.bytes <= room // 2
    assert "of 3 batches kept" in repr(some) and "notes" in repr(some)
    (note,) = some.notes
    assert "of 3 batches do not fit into" in note and note.endswith(
        "and are computed again in every product"
    )
    nothing = operator(cost, memory=0)
    assert nothing.bytes == 0 and "0 of 3 batches kept" in repr(nothing)


def peak_of_tensors(cost: hesse.Cost, memory: int) -> tuple[hesse.HessianOperator, int]:
    with Rehearsal(shapes_only=False) as counts:
        op = operator(cost, memory=memory)
        _ = op @ direction(cost.layout.size)
    return op, counts.peak


@pytest.mark.parametrize("batches", [1, 10])
@pytest.mark.parametrize("room", [0.5, 2, 5, 50])
def test_it_takes_what_it_says_and_no_more_than_it_may(
    batches: int, room: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_LITTLE", 0)
    X, y = data(20000)
    size = len(X) // batches
    cost = hesse.Cost(
        network(), "cross_entropy", list(zip(X.split(size), y.split(size), strict=True))
    )
    one_pass = operator_plan(cost, 0).peak_bytes
    memory = int(room * one_pass)
    op, taken = peak_of_tensors(cost, memory)
    assert taken <= 1.1 * op.peak_bytes + 10**5
    said = any("to work in: a batch is" in note for note in op.notes)
    assert said == (room < 1) and (said or op.peak_bytes <= 1.1 * memory)
    held = sum(operator_plan(cost, memory).holds)
    assert held == {0.5: 0, 50: batches}.get(room, held) and (held > 0) == (op.bytes > 0)
    assert agree(op @ direction(26), operator(cost) @ direction(26))


def test_a_larger_batch_takes_the_room_of_what_was_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_LITTLE", 0)
    X, y = data(20000)
    sizes = [1000] * 5 + [15000]
    cost = hesse.Cost(
        network(), "cross_entropy", list(zip(X.split(sizes), y.split(sizes), strict=True))
    )
    largest = hesse.Cost(network(), "cross_entropy", (X[5000:], y[5000:]))
    memory = int(1.15 * operator_plan(largest, 0).peak_bytes)
    op, taken = peak_of_tensors(cost, memory)
    assert 0 < sum(operator_plan(cost, memory).holds) < 5
    assert taken <= memory and "computed again" in op.notes[0]
    assert agree(op @ direction(26), operator(cost) @ direction(26))


def test_what_takes_more_than_is_free_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_LITTLE", 0)
    monkeypatch.setattr(planning, "available_bytes", lambda device: 10**5)
    with pytest.raises(
        HesseMemoryError, match=r"a product with a batch takes .* free; give .*small"
    ):
        operator(hesse.Cost(network(), "cross_entropy", data(5000)))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is asked of Linux")
def test_a_process_takes_what_was_said() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("resident.py"))],
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    little = 20 * 10**6
    for each in found.values():
        assert max(each["made"], each["product"]) <= 1.1 * each["planned"] + little
    # Caches hold the columns of a matrix; where less may be used, half of that does.
    assert found["whole"]["matrix"] <= slabs.HOLES_OF_A_SLAB * slabs.CACHES + little
    assert found["batches"]["matrix"] <= 1.1 * found["batches"]["memory"] + little
    assert 0 < sum(found["batches"]["holds"]) < len(found["batches"]["holds"])


def test_a_cost_is_traced_once_for_all_batches_of_a_shape_and_all_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traces = []
    trace = methods.trace
    monkeypatch.setattr(methods, "trace", lambda *arguments: traces.append(1) or trace(*arguments))
    X, y = data(10)
    cost = hesse.Cost(network(), "cross_entropy", list(zip(X.split(4), y.split(4), strict=True)))
    operator(cost)
    assert len(traces) == 2  # four samples, and the last two
    moved = cost.at(cost.theta + 0.1)
    assert agree(operator(moved) @ direction(26), dense(moved) @ direction(26))
    assert len(traces) == 2


def test_many_shapes_are_not_all_traced() -> None:
    X, y = data(21)
    sizes = [1, 2, 3, 4, 5, 6]
    cost = hesse.Cost(
        network(), "cross_entropy", list(zip(X.split(sizes), y.split(sizes), strict=True))
    )
    op = operator(cost)
    assert "straight line, autograd's graph" in repr(op)
    assert agree(op @ direction(26), dense(cost) @ direction(26))


@pytest.mark.parametrize("method", methods.METHODS, ids=lambda method: method.name)
def test_nothing_is_left_behind(method: type[LinearizedTerm], cost: hesse.Cost) -> None:
    term = batch_term(cost, next(cost.batches()))
    linear = method(term)  # a trace leaves cycles for the collector, once
    linear.product([torch.ones_like(p) for p in term.theta])
    gc.collect()
    gc.disable()
    try:
        before = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
        for _ in range(3):
            linear = method(term)
            linear.product([torch.ones_like(p) for p in term.theta])
        assert sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()) <= before
    finally:
        gc.enable()


def test_programs_go_with_their_cost() -> None:
    cost = hesse.Cost(network(), "cross_entropy", data())
    operator(cost)
    total = weakref.ref(cost.total)
    del cost
    gc.collect()
    assert total() is None


def test_available_bytes_is_a_figure() -> None:
    assert 0 < available_bytes(torch.device("cpu")) < 2**50


# ---------------------------------------------------------------- methods


def test_every_method_gives_the_same_product(cost: hesse.Cost) -> None:
    term = batch_term(cost, next(cost.batches()))
    v = list(cost.layout.unflatten(direction(26)).values())
    first, *others = [
        torch.cat([part.reshape(-1) for part in method(term).product(v)])
        for method in methods.METHODS
    ]
    assert all(agree(other, first) for other in others)


def branching(prediction: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(prediction, target) if prediction.sum() > -1e9 else prediction.sum()


def selecting(prediction: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(prediction[target >= 0], target[target >= 0])


@pytest.mark.parametrize(
    ("loss", "method"), [(branching, "straight line"), (selecting, "autograd's graph")]
)
def test_what_looks_at_values(loss: Any, method: str) -> None:
    """A branch is taken as the values have it; a size that depends on them falls back to autograd,
    and says so."""
    cost = hesse.Cost(network(), loss, data())
    op = operator(cost)
    assert op.methods == (method,)
    assert all(note.startswith("straight line is not possible: ") for note in op.notes) and len(
        op.notes
    ) == (loss is selecting)
    assert agree(op @ direction(26), dense(cost) @ direction(26))
    assert agree(op @ direction(26, 2), dense(cost) @ direction(26, 2))


class Physical(nn.Module):
    """A network together with its derivatives in the input, by `torch.func`, as physics-informed
    networks have them."""

    def __init__(self, derivative: Any) -> None:
        super().__init__()
        self.net, self.derivative = network(), derivative

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.vmap(self.derivative(lambda z: self.net(z).square().sum()))(x).reshape(
            len(x), -1
        )


@pytest.mark.parametrize(
    "derivative",
    [
        torch.func.grad,
        torch.func.jacfwd,
        torch.func.hessian,
        lambda u: torch.func.jacrev(torch.func.grad(u)),
    ],
    ids=["grad", "jacfwd", "hessian", "jacrev of grad"],
)
def test_a_forward_that_differentiates(derivative: Any) -> None:
    model, x = Physical(derivative), data()[0]
    cost = hesse.Cost(model, "half_sse", (x, torch.zeros_like(model(x))))
    leaves = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    value = torch.func.functional_call(model, leaves, (x,)).square().sum() / 2
    slopes = torch.autograd.grad(value, list(leaves.values()), create_graph=True)
    v = direction(26)
    product = torch.autograd.grad(
        slopes, list(leaves.values()), list(cost.layout.unflatten(v).values())
    )
    assert agree(operator(cost) @ v, torch.cat([part.reshape(-1) for part in product]))


class Cube(torch.autograd.Function):
    """x³ without a forward derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradients[0]


def test_a_custom_function_without_forward_derivative() -> None:
    op = operator(
        hesse.Cost.from_function(
            lambda p: Cube.apply(p["x"]).sum(), {"x": torch.tensor([1.0, 2.0])}
        )
    )
    assert torch.equal(op @ torch.ones(2), torch.tensor([6.0, 12.0]))
    # Traced by double backward, which needs none.
    assert op.methods == ("straight line",)


class Wrong(torch.autograd.Function):
    """x² y whose backward differentiates to something that is not symmetric."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return x**2 * y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        return 2 * x * y.detach() * gradients[0], x**2 * gradients[0]


def test_second_derivatives_that_are_wrong_are_refused() -> None:
    parameters = {"x": torch.tensor(1.0).double(), "y": torch.tensor(2.0).double()}
    cost = hesse.Cost.from_function(lambda p: Wrong.apply(p["x"], p["y"]), parameters)
    with pytest.raises(
        HesseValueError,
        match=(
            r"second derivatives of it are wrong.*'[xy]' is .* by double backward and .* by"
            r" differences"
        ),
    ):
        operator(cost)


def test_a_failed_trace_leaves_autograd_working() -> None:
    operator(hesse.Cost(network(), branching, data()))
    x = torch.ones(2, requires_grad=True)
    (x**2).sum().backward()
    assert torch.equal(x.grad if x.grad is not None else torch.zeros(2), torch.full((2,), 2.0))


# ---------------------------------------------------------------- SciPy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_scipy_operator(dtype: torch.dtype) -> None:
    X, y = data()
    cost = hesse.Cost(network().to(dtype), "cross_entropy", (X.to(dtype), y))
    H, op = dense(cost).numpy(), operator(cost).to_scipy()
    kind, tolerance = (
        np.dtype(str(dtype).removeprefix("torch.")),
        1e-5 if dtype == torch.float32 else 1e-12,
    )
    V = direction(26, 3).numpy()
    assert op.shape == (26, 26) and op.dtype == kind
    for product, expected in (
        (op @ V, H @ V),
        (op.T @ V, H @ V),
        (op.matvec(V[:, 0]), H @ V[:, 0]),
        (op @ V[:, :1], H @ V[:, :1]),
    ):
        assert product.dtype == kind and product.shape == expected.shape
        assert np.abs(product - expected).max() < tolerance * np.abs(expected).max() * 10
    largest = eigsh(op, k=1, v0=np.ones(26, dtype=kind), return_eigenvectors=False)
    assert abs(largest[0] - np.abs(np.linalg.eigvalsh(H)).max()) < 100 * tolerance
    with pytest.raises(HesseTypeError, match="v: expected real numbers, got complex ones"):
        _ = op @ (V[:, 0] * 1j)


# ---------------------------------------------------------------- errors


def test_errors_of_the_argument(cost: hesse.Cost) -> None:
    op = operator(cost)
    broken = direction(26)
    broken[3] = float("nan")
    parts = cost.layout.unflatten(direction(26))
    wrong: list[tuple[Any, type[HesseError], str]] = [
        (direction(25), HesseValueError, r"v: expected shape \(26,\) or \(26, K\), got \(25,\)"),
        (
            direction(3, 26),
            HesseValueError,
            r"v: expected shape \(26,\) or \(26, K\), got \(3, 26\)",
        ),
        (direction(26, 1, 1), HesseValueError, r"got \(26, 1, 1\)"),
        (
            direction(26).float(),
            HesseTypeError,
            r"v: expected torch.float64 like the parameters, got torch.float32; convert it with",
        ),
        (broken, HesseValueError, r"v: 1 of its 26 entries are not finite \(nan or inf\)"),
        (broken[:, None], HesseValueError, r"v: 1 of its 26 entries are not finite"),
        (
            {**parts, "0.bias": parts["0.bias"] / 0},
            HesseValueError,
            r"v\['0.bias'\]: 4 of its 4 entries are not finite",
        ),
        (
            {**parts, "0.bias": parts["0.bias"].int()},
            HesseTypeError,
            r"v\['0.bias'\]: expected torch.float64",
        ),
        (
            {**parts, "0.bias": parts["2.bias"]},
            HesseValueError,
            r"'0.bias' has shape \(2,\); this layout expects \(4,\)",
        ),
        (
            {"0.bias": parts["0.bias"]},
            HesseKeyError,
            r"missing \['0.weight', '2.weight', '2.bias'\], unknown none",
        ),
        ({**parts, "head": parts["2.bias"]}, HesseKeyError, r"missing none, unknown \['head'\]"),
    ]
    for v, kind, text in wrong:
        with pytest.raises(kind, match=text):
            _ = op @ v


def test_errors_of_wrong_types(cost: hesse.Cost) -> None:
    op: Any = operator(cost)
    with pytest.raises(
        HesseTypeError,
        match=(
            r"v: expected a flat tensor of P = 26 entries.*got ndarray; torch.from_numpy takes"
            r" NumPy arrays.*to_scipy"
        ),
    ):
        _ = op @ direction(26).numpy()
    with pytest.raises(HesseTypeError, match=r"v\['0.bias'\]: expected a tensor, got list"):
        _ = op @ {**cost.layout.unflatten(direction(26)), "0.bias": [1.0]}
    # As a user has it, without the type checks of this test run.
    unchecked: Any = inspect.unwrap(operator)
    with pytest.raises(HesseTypeError, match=r"cost: expected a hesse.Cost, got Sequential"):
        unchecked(network())
    with pytest.raises(HesseTypeError, match=r"memory: expected a whole number of bytes, got str"):
        unchecked(cost, memory="2GB")
    with pytest.raises(HesseValueError, match=r"memory: expected a number of bytes >= 0, got -1"):
        unchecked(cost, memory=-1)
