"""What CONTRIBUTING says of adding something, done: one record each goes through numbers, formulas,
code and pages."""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

import hesse
from hesse.derivation.calculus.algebra import add, product, scale
from hesse.derivation.calculus.expression import Delta, Entry, Expression, Index
from hesse.derivation.sources.networks.call import Call
from hesse.derivation.sources.networks.maps import moved, reshaped
from hesse.derivation.sources.networks.view import View
from hesse.errors import HesseValueError
from hesse.graph.local import Local
from hesse.operations.elementwise import entrywise
from hesse.operations.record import ArrayFunction, Function, LossFunction, Operation, Structure
from hesse.operations.registry import BY_TARGET, register, registered, remove


def x(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).double()


def check_numbers(cost: hesse.Cost) -> hesse.BlockHessian:
    """Captured, certified, and the same by every way."""
    assert hesse.plan(cost).captured
    H = hesse.hessian(cost)
    assert H.certificate is not None
    dense = H.dense()
    entries = torch.cat([part.flatten() for part in hesse.diagonal(cost).values()])
    assert torch.allclose(entries, dense.diagonal(), rtol=1e-10, atol=1e-12)
    assert torch.allclose(
        hesse.operator(cost) @ torch.eye(len(dense)).double(), dense, rtol=1e-10, atol=1e-12
    )
    return H


def check_derivation(cost: hesse.Cost) -> hesse.Derivation:
    """Every line certified, every block the Hessian's, and written in every way."""
    derivation, H = hesse.derive(cost), hesse.hessian(cost)
    for a, b in H.pairs:
        assert torch.allclose(derivation.block(a, b).evaluate(), H[a, b], rtol=1e-10, atol=1e-12)
    for page in (str(derivation), derivation.latex(), derivation.html()):
        assert page
    return derivation


def check_text(
    derivation: hesse.Derivation, rows: str, columns: str, **arrays: numpy.ndarray[Any, Any]
) -> str:
    """The block of a formula in words: the NumPy code that is printed, run, gives what is
    evaluated; the code."""
    block = derivation.block(rows, columns)
    code = block.python()
    names: dict[str, Any] = {}
    exec(code, names)
    made: list[Any] = [value for value in names.values() if inspect.isfunction(value)]
    assert numpy.allclose(made[0](**arrays), block.evaluate(**arrays), rtol=1e-12)
    assert derivation.html() and derivation.latex() and block.latex()
    return code


# ---------------------------------------------------------------- an activation


@pytest.fixture
def without_celu() -> Iterator[None]:
    """As if hesse had no record of it."""
    record = BY_TARGET[torch.ops.aten.celu]
    remove(record)
    yield
    register(record)


def test_an_activation(without_celu: None) -> None:
    celu = Function(
        value=torch.nn.functional.celu,
        derivatives=("step(z) + (1 - step(z))*exp(z)", "(1 - step(z))*exp(z)"),
        kink="where the argument is not zero",
        numpy="numpy.maximum(z, 0) + numpy.expm1(numpy.minimum(z, 0))",
        torch="torch.nn.functional.celu(z)",
        options=(1,),
    )
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(2, 2, bias=False), nn.CELU(), nn.Linear(2, 1, bias=False)
    ).double()
    cost = hesse.Cost(net, "half_sse", (x(4, 2), x(4, 1)))
    with registered(entrywise("celu", "celu", celu)):
        check_numbers(cost)
        check_derivation(cost)
        derivation = hesse.derive("sum(y*celu(X@w))", "w")
        assert "numpy.exp" in check_text(
            derivation, "w", "w", X=x(4, 2).numpy(), y=x(4).numpy(), w=x(2).numpy()
        )


# ---------------------------------------------------------------- a linear operation


def _pull_shuffle(op: Local, columns: Tensor) -> tuple[Tensor]:
    """The shuffle undone, for all samples and columns in one call."""
    rate, shape = op.node.args[1], op.value(op.active[0]).shape[1:]
    return (torch.pixel_unshuffle(columns.flatten(0, 2), rate).reshape(*columns.shape[:2], *shape),)


def _shuffle(call: Call) -> View:
    """z[c, 2u + k, 2v + l] = x[(c, k, l), u, v]"""
    view, rate = call.operand(call.node.args[0]), call.node.args[1]
    batch, channels, rows, columns = view.shape
    parted = reshaped(call.build, view, (batch, channels // rate**2, rate, rate, rows, columns))
    return reshaped(call.build, moved(parted, (0, 1, 4, 2, 5, 3)), call.node.shape)


def test_a_linear_operation() -> None:
    record = Operation(
        name="pixel_shuffle",
        aten="pixel_shuffle",
        structure=Structure.PERMUTES | Structure.LINEAR,
        pull=_pull_shuffle,
        formula=_shuffle,
    )
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(2, 4), nn.Unflatten(1, (4, 1, 1)), nn.PixelShuffle(2), nn.Tanh(), nn.Flatten()
    ).double()
    cost = hesse.Cost(net, "half_sse", (x(3, 2), x(3, 4)))
    with registered(record):
        check_numbers(cost)
        check_derivation(cost)


# ---------------------------------------------------------------- a loss


def log_cosh(prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """log cosh (ŷ − y)"""
    each = torch.log(torch.cosh(prediction - target))
    return {"none": lambda e: e, "sum": torch.sum, "mean": torch.mean}[reduction](each)


class LogCosh(nn.Module):
    """The same as a module."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return log_cosh(prediction, target, self.reduction)


def test_a_loss() -> None:
    record = Operation(
        name="log_cosh", loss=LossFunction(function=log_cosh, module=LogCosh, word="log_cosh")
    )
    torch.manual_seed(0)
    net, X, y = nn.Linear(2, 1).double(), x(5, 2), x(5, 1)
    with registered(record):
        cost = hesse.Cost(net, "log_cosh", (X, y))
        H = check_numbers(cost)
        check_derivation(cost)
        ragged = [(X[:3], y[:3]), (X[3:], y[3:])]
        for loss in ("log_cosh", log_cosh, LogCosh()):
            assert torch.allclose(
                hesse.hessian(hesse.Cost(net, loss, ragged)).dense(), H.dense(), rtol=1e-11
            )
        weighed = hesse.hessian(hesse.Cost(net, "log_cosh", (X, y, torch.ones(5).double())))
        assert torch.allclose(weighed.dense(), H.dense(), rtol=1e-11)
    with pytest.raises(HesseValueError, match="no loss is named 'log_cosh'"):
        hesse.Cost(net, "log_cosh", (X, y))


# ---------------------------------------------------------------- functions of the language


def test_a_function_of_the_language() -> None:
    logcosh = Function(
        value=lambda z: torch.logaddexp(z, -z) - math.log(2),
        derivatives=("tanh(z)", "1 - tanh(z)**2"),
        at_once=True,
        numpy="numpy.logaddexp(z, -z) - math.log(2)",
        torch="torch.logaddexp(z, -z) - math.log(2)",
        latex=r"\log\cosh",
    )
    with registered(Operation(name="logcosh", function=logcosh)):
        derivation = hesse.derive("sum(logcosh(X@w - y))", "w")
        assert "tanh" in str(derivation) and r"\log\cosh" in derivation.latex()
        X, y, w = (part.numpy() for part in (x(4, 2), x(4), x(2)))
        check_text(derivation, "w", "w", X=X, y=y, w=w)
        slope = 1 - numpy.tanh(X @ w - y) ** 2
        assert numpy.allclose(
            derivation.block("w", "w").evaluate(X=X, y=y, w=w), X.T @ (slope[:, None] * X)
        )
    with pytest.raises(HesseValueError, match="logcosh"):
        hesse.derive("sum(logcosh(X@w))", "w")


def _slope_of_softmin(
    out: Entry, argument: Entry, by: tuple[Index, ...], other: Callable[..., Entry]
) -> Expression:
    """∂q_i/∂z_j = q_i (q_j − [i = j])"""
    twin = Entry(out.name, (*out.indices[:-1], by[0]))
    return add(product((out, twin)), scale(product((out, Delta(out.indices[-1], by[0]))), -1))


def test_a_function_of_an_array() -> None:
    softmin = ArrayFunction(
        value=lambda z: torch.softmax(-z, -1),
        derivative=_slope_of_softmin,
        axes=1,
        keeps=1,
        reason="∂q_i/∂z_j = q_i (q_j − [i = j])",
        numpy="numpy.exp(-z - numpy.logaddexp.reduce(-z, axis=-1, keepdims=True))",
        torch="torch.softmax(-z, -1)",
        base="q",
        distribution=True,
    )
    with registered(Operation(name="softmin", array=softmin)):
        derivation = hesse.derive("y.T @ softmin(W @ x)", ["W"])
        W, v, y = x(3, 2), x(2), x(3)
        found = derivation.block("W", "W").evaluate(W=W, x=v, y=y)
        expected = torch.func.hessian(lambda W: y @ torch.softmax(-(W @ v), -1))(W)
        assert torch.allclose(found, expected, rtol=1e-10)
        check_text(derivation, "W", "W", W=W.numpy(), x=v.numpy(), y=y.numpy())
        assert torch.allclose(
            hesse.derive("sum(softmin(A, axis=0)**2)", "A").block("A", "A").evaluate(A=W),
            _columns(W),
        )


def _columns(A: Tensor) -> Tensor:
    return torch.func.hessian(lambda A: torch.softmax(-A, 0).square().sum())(A)
