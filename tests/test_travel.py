"""What hesse gives can be pickled and copied, and a copy has the same numbers; where the user's
model, loss or data cannot, an error says which."""

import copy
import functools
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hesse
from hesse.curvatures.curvature import Curvature
from hesse.curvatures.hessian import HESSIAN, Hessian
from hesse.errors import HesseTypeError, HesseValueError
from hesse.products.terms import failed_methods
from networks import dense


def x(*shape: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sum(shape))
        return torch.randn(*shape, dtype=torch.float64)


def distance(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean()


def counted(prediction: Tensor, target: Tensor) -> tuple[Tensor, int]:
    return (prediction - target).square().sum(), len(target)


def each(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().sum(1)


def of_parameters(p: dict[str, Tensor]) -> Tensor:
    return (p["w"].exp() * p["v"]).sum() ** 2


def of_a_batch(p: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
    return (batch[0] @ p["w"] - batch[1]).tanh().square().mean()


def line(p: dict[str, Tensor], inputs: Tensor) -> Tensor:
    return torch.tanh(inputs @ p["w"])


def quartic(p: dict[str, Tensor]) -> Tensor:
    return sum((part.pow(4).sum() for part in p.values()), start=torch.zeros((), dtype=x(1).dtype))


class Scaled(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(x(2) / 4)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ((prediction - target) * self.log.exp()).square().sum()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.cell, self.head = nn.RNN(3, 2, batch_first=True), nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.second(self.first(inputs).tanh())
        return self.head(self.cell(hidden.unsqueeze(1))[0][:, 0])


X, Y, LABELS = x(6, 3), x(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])


def loader() -> DataLoader[Any]:
    return DataLoader(
        TensorDataset(X, Y), batch_size=3, shuffle=True, generator=torch.Generator().manual_seed(1)
    )


def of_net(loss: Any, data: Any, **others: Any) -> hesse.Cost:
    torch.manual_seed(0)
    return hesse.Cost(dense(3, 2, 2).double(), loss, data, **others)


COSTS: dict[str, Callable[[], hesse.Cost]] = {
    "by name": lambda: of_net("mse", (X, Y)),
    "weights of classes": lambda: of_net(
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]).double()), (X, LABELS)
    ),
    "function": lambda: of_net(distance, (X, Y)),
    "total and count": lambda: of_net(counted, [(X[:2], Y[:2]), (X[2:], Y[2:])]),
    "weights of samples": lambda: of_net(each, (X, Y, X[:, 0].exp())),
    "module with a parameter": lambda: of_net(Scaled(), (X, Y)),
    "loader": lambda: of_net(F.mse_loss, loader()),
    "penalties": lambda: of_net("half_sse", (X, Y), penalty=quartic),
    "some parameters": lambda: of_net("half_sse", (X, Y), params=["2.*"], penalty=0.1),
    "tied and recurrent": lambda: hesse.Cost(Tied().double(), "mse", (X, Y)),
    "function of the inputs": lambda: hesse.Cost(line, "mse", (X, Y), params={"w": x(3, 2)}),
    "function alone": lambda: hesse.Cost.from_function(of_parameters, {"w": x(2), "v": x(2)}),
    "function of batches": lambda: hesse.Cost.from_function(of_a_batch, {"w": x(3, 2)}, (X, Y)),
}

COPIES: dict[str, Callable[[Any], Any]] = {
    "pickled": lambda value: pickle.loads(pickle.dumps(value)),
    "copied": copy.deepcopy,
    "shallow": copy.copy,
}


@pytest.mark.parametrize("make", COSTS.values(), ids=COSTS)
def test_costs(make: Callable[[], hesse.Cost]) -> None:
    cost = make()
    H, v = hesse.hessian(cost, certify=False).dense(), torch.ones(cost.layout.size).double()
    operator = hesse.operator(cost)
    assert torch.equal(hesse.hessian(copy.deepcopy(cost), certify=False).dense(), H)
    for way, copied in COPIES.items():
        other = copied(cost)
        assert repr(other) == repr(cost) and hesse.value(other) == hesse.value(cost), way
        again = copied(operator)
        assert again.certificate == operator.certificate and repr(again) == repr(operator)
        assert torch.equal(again @ v, operator @ v), way


@functools.cache
def subject() -> hesse.Cost:
    return of_net("mse", (X, Y))


@functools.cache
def model(dense: bool | None = None) -> hesse.QuadraticModel:
    """One that was asked already: what it keeps travels too."""
    made = hesse.quadratic(subject(), dense=dense)
    made.saddle_free(0.1)
    return made


@functools.cache
def of_maps() -> hesse.Derivation:
    net = nn.Sequential(nn.Linear(3, 2), nn.CELU(2.0), nn.MaxPool1d(2), nn.Flatten()).double()
    return hesse.derive(hesse.Cost(net, "mse", (X.unsqueeze(1), Y[:, :1])), wrt="0.weight")


@functools.cache
def of_classes() -> hesse.Derivation:
    """Of words, under targets with weights and smoothing."""
    net = nn.Sequential(nn.Embedding(3, 2), nn.Flatten(), nn.Linear(4, 2)).double()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]).double(), label_smoothing=0.1)
    words = torch.arange(12).reshape(6, 2) % 3
    return hesse.derive(hesse.Cost(net, loss, (words, LABELS)), wrt="2.bias")


def of_samples(what: Any) -> hesse.PerSample:
    """Iterated over, so that it knows how."""
    samples = hesse.per_sample(subject(), what)
    samples.stack()
    return samples


RESULTS: dict[str, Callable[[], Any]] = {
    "hessian": lambda: hesse.hessian(subject()),
    "blocks": lambda: hesse.hessian(subject(), block_diagonal=True),
    "diagonal": lambda: hesse.diagonal(subject()),
    "plan": lambda: hesse.plan(subject()),
    "quadratic": model,
    "quadratic without H": lambda: model(dense=False),
    "step": lambda: model().saddle_free(0.1),
    "trust": lambda: model().trust(),
    "stationary": lambda: model().stationary_point(),
    "minimum": lambda: hesse.minimize(subject(), maxiter=3),
    "derivation": lambda: hesse.derive("1/2*sum((y - f(W @ x))**2)", wrt=["W", "x"]),
    "network": lambda: hesse.derive(hesse.Network("1-1-1"), stagewise=True),
    "of a cost": of_maps,
    "of classes": of_classes,
    "gradients of samples": lambda: of_samples("gradient"),
    "diagonals of samples": lambda: of_samples("diagonal"),
    "Hessians of samples": lambda: of_samples("hessian"),
    "K-FAC": lambda: hesse.kfac(subject()).inverse(0.1),
    "eigenpairs": lambda: hesse.eigenpairs(subject(), 2),
    "formula": lambda: of_maps().block("0.weight", "0.weight"),
}


def numbers(value: Any) -> Any:
    """What a copy must have too."""
    match value:
        case hesse.BlockHessian():
            return repr(value), value.norms
        case hesse.QuadraticModel():
            return repr(value), value.saddle_free(0.1).vector.tolist(), value.value
        case hesse.PerSample():
            return {str(key): part.tolist() for key, part in value.stack().items()}
        case hesse.LinearOperator():
            return (value @ torch.ones(value.shape[1]).double()).tolist()
        case hesse.Step():
            return str(value), value.vector.tolist()
        case hesse.Formula():
            return value.text(), value.evaluate().tolist()
        case hesse.Derivation() if value.cost_arrays is not None:
            blocks = [value.block(*pair).evaluate().tolist() for pair in value.blocks]
            return value.text(), value.certify(1).lines, blocks
        case hesse.Derivation():
            return value.text(), value.certify(1).lines, value.block(*value.parameters[:2]).text()
        case {"parameters": parameters}:
            return value.message, value.fun, {k: v.tolist() for k, v in parameters.items()}
        case dict():
            return {name: entries.tolist() for name, entries in value.items()}
    return str(value)


@pytest.mark.parametrize("make", RESULTS.values(), ids=RESULTS)
def test_results(make: Callable[[], Any]) -> None:
    result = make()
    for way, copied in COPIES.items():
        assert numbers(copied(result)) == numbers(result), way


@pytest.mark.small  # there, as a fixture does not reach it
def test_another_process() -> None:
    """One that begins with nothing."""
    cost = of_net(F.mse_loss, loader(), penalty=0.1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        H = pool.submit(hesse.hessian, cost).result(120)
        result = pool.submit(hesse.minimize, cost, maxiter=4).result(120)
        with pytest.raises(hesse.HesseError):
            pool.submit(hesse.hessian, cost, pairs=[("none", "none")]).result(120)
    assert torch.equal(H.dense(), hesse.hessian(cost).dense())
    assert result.fun == hesse.minimize(cost, maxiter=4).fun


def locked() -> nn.Module:
    net = dense(3, 4, 2).double()
    net.register_forward_hook(lambda module, given, output: None)
    return net


WITHOUT: dict[str, tuple[str, Callable[[], hesse.Cost]]] = {
    "loss": ("loss", lambda: of_net(lambda p, y: (p - y).square().sum(), (X, Y))),
    "hook": ("model", lambda: hesse.Cost(locked(), "mse", (X, Y))),
    "model": (
        "model",
        lambda: hesse.Cost(lambda p, z: z @ p["w"], "mse", (X, Y), params={"w": x(3, 2)}),
    ),
    "penalty": (
        "penalty",
        lambda: of_net("mse", (X, Y), penalty=lambda p: p["0.weight"].sum() ** 2),
    ),
    "function": ("f", lambda: hesse.Cost.from_function(lambda p: p["w"].exp().sum(), {"w": x(2)})),
    "data": (
        "data",
        lambda: of_net(
            "mse",
            DataLoader(
                TensorDataset(X, Y),
                collate_fn=lambda b: (
                    torch.stack([z for z, _ in b]),
                    torch.stack([y for _, y in b]),
                ),
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_what_cannot_travel_is_named(name: str) -> None:
    part, make = WITHOUT[name]
    cost = make()
    for value in (cost, hesse.operator(cost), hesse.quadratic(cost)):
        with pytest.raises(hesse.HesseError, match=f"^{part}: this Cost cannot be pickled"):
            pickle.dumps(value)
    assert torch.equal(hesse.hessian(copy.deepcopy(cost)).dense(), hesse.hessian(cost).dense())


def test_what_cannot_be_copied_is_named() -> None:
    lock = threading.Lock()

    class Data:
        def __init__(self) -> None:
            self.lock = lock

        def __iter__(self) -> Any:
            return iter([(X, Y)])

    cost = of_net("mse", Data())
    with pytest.raises(HesseTypeError, match="copy: a part of this Cost cannot be copied"):
        copy.deepcopy(cost)


def test_picklers_that_write_functions() -> None:
    """As cloudpickle, which joblib and dask take."""
    cloudpickle = pytest.importorskip("cloudpickle")
    cost = of_net(lambda p, y: (p - y).square().sum(), (X, Y))
    other = pickle.loads(cloudpickle.dumps(cost))
    assert torch.equal(hesse.hessian(other).dense(), hesse.hessian(cost).dense())


def test_a_method_that_was_seen_to_fail_stays_so() -> None:
    cost = of_net("mse", (X, Y))
    failed_methods(cost)["straight line"] = "was wrong"
    for copied in COPIES.values():
        assert hesse.operator(copied(cost)).methods == ("autograd's graph",)


def test_written_data_do_not_pass_for_the_data() -> None:
    data = X.clone(), Y.clone()
    cost = of_net("mse", data)
    other = copy.deepcopy(cost)
    data[0].mul_(2)
    with pytest.raises(HesseValueError, match="written into"):
        pickle.dumps(cost)
    assert hesse.value(other) == hesse.value(of_net("mse", (X, Y)))


def test_a_copy_has_no_model_to_change() -> None:
    for copied in (COPIES["pickled"], copy.deepcopy):
        with pytest.raises(HesseTypeError, match="a model that is gone"):
            hesse.minimize(copied(of_net("mse", (X, Y))), apply=True)


def test_curvatures() -> None:
    class Own(Hessian):  # type: ignore[misc]
        name = "own"

    own: Curvature = Own()
    for copied in COPIES.values():
        assert copied(HESSIAN) is HESSIAN
        assert copied is COPIES["pickled"] or type(copied(own)) is Own
