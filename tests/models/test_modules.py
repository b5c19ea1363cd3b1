"""Modules as people have them: compiled, wrapped for several devices, pruned, scripted; and
parameters without entries."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

import hesse
from certificates.kinds import WAYS, Formula, Make, Subject, check_right, made, of, parameter, x

# torch.jit and parts of the compiler warn that they are old.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:Initializing zero-element"
)


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def wrapped(wrap: Callable[[nn.Module], Any], prefix: str = "") -> Subject:
    """The module in its wrapper; the reference is the module alone, its leaves by the names that
    they have in the wrapper."""
    inner, X, y = plain(), x(5, 3), x(5, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = wrap(inner)
    leaves = {f"{prefix}{name}": value for name, value in inner.named_parameters()}
    return Subject(
        hesse.Cost(model, "half_sse", (X, y)), lambda: (inner(X) - y).square().sum() / 2, leaves
    )


def in_a_list(inner: Any) -> nn.Module:
    """Compiled within another module."""
    layers: Any = [torch.compile(layer) for layer in inner]
    return nn.Sequential(*layers)


def doubly(inner: nn.Module) -> nn.Module:
    compiled: Any = torch.compile(inner)
    return nn.DataParallel(compiled)


def within() -> Subject:
    subject = wrapped(in_a_list)
    return Subject(
        subject.cost,
        subject.J,
        {name.replace(".", "._orig_mod."): leaf for name, leaf in subject.leaves.items()},
    )


def pruned(inner: nn.Module) -> nn.Module:
    assert isinstance(inner, nn.Sequential)
    return prune.l1_unstructured(inner[0], "weight", 0.5) and inner


WRAPPED: dict[str, Make] = {
    "compiled": lambda: wrapped(torch.compile, "_orig_mod."),
    "compiled within": within,
    "compiled, on several devices": lambda: wrapped(doubly, "module._orig_mod."),
    "several devices": lambda: wrapped(nn.DataParallel, "module."),
    "scripted": lambda: wrapped(torch.jit.script),
    "traced": lambda: wrapped(lambda inner: torch.jit.trace(inner, x(5, 3))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", WRAPPED.values(), ids=WRAPPED)
def test_wrapped_modules_are_taken(kind: Make, way: str) -> None:
    check_right(kind, way)
    assert hesse.plan(made(kind).cost).captured


@pytest.mark.parametrize("way", WAYS)
def test_pruned_modules_are_taken(way: str) -> None:
    def make() -> Subject:
        return of(pruned(plain()), "half_sse", (x(5, 3), x(5, 2)))

    check_right(make, way)


def test_products_with_a_compiled_module_are_a_straight_line() -> None:
    assert hesse.operator(made(WRAPPED["compiled"]).cost).methods == ("straight line",)


def test_a_module_compiled_in_place_that_has_run() -> None:
    model, X, y = plain(), x(5, 3), x(5, 2)
    expected = hesse.hessian(hesse.Cost(model, "half_sse", (X, y))).dense()
    model.compile(backend="eager")
    model(X)
    assert torch.allclose(
        hesse.hessian(hesse.Cost(model, "half_sse", (X, y))).dense(), expected, rtol=1e-12
    )


@pytest.mark.parametrize("way", WAYS)
def test_compiled_functions_run_as_they_were_written(way: str) -> None:
    """A loss, a method and a function: compiled code has no second derivatives."""

    @torch.compile(backend="aot_eager")
    def bent(z: Tensor) -> Tensor:
        return torch.tanh(z).square()

    @torch.compile(backend="aot_eager")
    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).pow(4).mean()

    compiled: Any = loss
    model = Formula(lambda m, z: m.b(bent(m.a(z))), a=nn.Linear(3, 4), b=nn.Linear(4, 2)).double()
    X, y, leaves = x(5, 3), x(5, 2), dict(model.named_parameters())
    members: Any = model

    def J() -> Tensor:
        return (members.b(torch.tanh(members.a(X)).square()) - y).pow(4).mean()

    check_right(lambda: Subject(hesse.Cost(model, compiled, (X, y)), J, leaves), way)


def test_what_was_compiled_is_compiled_again_afterwards() -> None:
    ran: list[str] = []

    def backend(graph: Any, inputs: Any) -> Any:
        ran.append("compiled")
        return graph.forward

    model = torch.compile(plain(), backend=backend)
    hesse.hessian(hesse.Cost(model, "half_sse", (x(5, 3), x(5, 2))))
    assert not ran
    model(x(5, 3))
    assert ran


# ---------------------------------------------------------------- by several processes


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch without torch.distributed")
@pytest.mark.parametrize("way", WAYS)
def test_a_distributed_module_is_taken(way: str, group: None) -> None:
    """By this process alone, and without a word to others: its names are those of the module in
    it."""
    inner, X, y = plain(), x(5, 3), x(5, 2)
    model = nn.parallel.DistributedDataParallel(inner)
    model(X).sum().backward()
    leaves = dict(inner.named_parameters())
    check_right(
        lambda: Subject(
            hesse.Cost(model, "half_sse", (X, y)), lambda: (inner(X) - y).square().sum() / 2, leaves
        ),
        way,
    )


@pytest.mark.skipif(not dist.is_available(), reason="torch without torch.distributed")
def test_parameters_are_chosen_and_given_back_by_the_names_of_the_module(group: None) -> None:
    inner: Any = plain()
    model = nn.parallel.DistributedDataParallel(inner)
    cost = hesse.Cost(model, "half_sse", (x(5, 3), x(5, 2)), params="2.*")
    assert cost.layout.names == ("2.weight", "2.bias")
    result = hesse.minimize(cost, apply=True)
    assert torch.equal(inner[2].bias, result.parameters["2.bias"])


# ---------------------------------------------------------------- without entries


def zero_inputs() -> Subject:
    """Only the bias is left of a layer without inputs."""
    model = Formula(
        lambda m, z: torch.tanh(m.l(z)) * m.scale, l=nn.Linear(0, 2), scale=parameter(2)
    )
    return of(model, "half_sse", (x(4, 0), x(4, 2)))


def zero_outputs() -> Subject:
    return of(
        nn.Sequential(nn.Linear(3, 0), nn.Tanh(), nn.Linear(0, 2)), "half_sse", (x(4, 3), x(4, 2))
    )


def empty() -> Subject:
    model = Formula(lambda m, z: torch.tanh(m.l(z)) + m.e.sum(), l=nn.Linear(3, 2), e=parameter(0))
    return of(model, "half_sse", (x(4, 3), x(4, 2)))


def joined() -> Subject:
    model = Formula(
        lambda m, z: torch.tanh(F.linear(z, torch.cat([m.a, m.b]))),
        a=parameter(0, 3),
        b=parameter(2, 3),
    )
    return of(model, "half_sse", (x(4, 3), x(4, 2)))


EMPTY: dict[str, Make] = {
    "no inputs": zero_inputs,
    "no outputs": zero_outputs,
    "no entries": empty,
    "joined": joined,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", EMPTY.values(), ids=EMPTY)
def test_parameters_without_entries(kind: Make, way: str) -> None:
    check_right(kind, way)


@pytest.mark.parametrize("kind", EMPTY.values(), ids=EMPTY)
def test_their_networks_are_captured_and_their_blocks_empty(kind: Make) -> None:
    cost = made(kind).cost
    assert hesse.plan(cost).captured
    empty = next(name for name, value in cost.parameters.items() if not value.numel())
    assert hesse.diagonal(cost)[empty].shape == cost.parameters[empty].shape
    assert hesse.hessian(cost)[empty, cost.layout.names[-1]].numel() == 0


def test_nothing_but_parameters_without_entries_is_refused() -> None:
    with pytest.raises(
        hesse.HesseError, match=r"params: none of them has an entry \('weight' of shape \(2, 0\)\)"
    ):
        hesse.Cost(nn.Linear(0, 2, bias=False).double(), "half_sse", (x(4, 0), x(4, 2)))
