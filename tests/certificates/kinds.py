"""What the tests of certified numbers share: a cost beside the same cost in plain PyTorch, and the
three ways to its Hessian.

A `Subject` holds both. Its reference is double backward of the user's own function, run on the
user's own tensors, so that it sees every use of a parameter, also those that go by no argument.
"""

import functools
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import hesse
from reference import NAMED

TOLERANCE = 1e-9
Make = Callable[[], "Subject"]


@dataclass(frozen=True, eq=False, repr=False)
class Subject:
    """A cost and its reference.

    Attributes:
        cost: the cost under test.
        J: the same cost in plain PyTorch, of the leaves.
        leaves: the tensors that J reads and that derivatives are taken in, by the names of the
            cost's layout.
    """

    cost: hesse.Cost
    J: Callable[[], Tensor]
    leaves: Mapping[str, Tensor]

    @functools.cached_property
    def expected(self) -> Tensor:
        """The Hessian (P, P) in the order of the cost's layout."""
        assert set(self.cost.layout.names) <= set(self.leaves), (
            self.cost.layout.names,
            list(self.leaves),
        )
        return double_backward(self.J, [self.leaves[name] for name in self.cost.layout.names])


def double_backward(J: Callable[[], Tensor], leaves: Sequence[Tensor]) -> Tensor:
    """H, a row by each entry of the gradient, all in torch.autograd."""
    options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    with sdpa_kernel(SDPBackend.MATH):
        slopes = torch.autograd.grad(J(), leaves, create_graph=True, **options)
        rows = []
        for entry in torch.cat([slope.reshape(-1) for slope in slopes]):
            made = (
                torch.autograd.grad(entry, leaves, retain_graph=True, **options)
                if entry.requires_grad
                else leaves
            )
            row = torch.cat([part.detach().reshape(-1) for part in made])
            rows.append(row if entry.requires_grad else torch.zeros_like(row))
    return torch.stack(rows)


def of(
    model: nn.Module, loss: Any, data: Any, J: Callable[[], Tensor] | None = None, **options: Any
) -> Subject:
    """The subject of a module in float64; by default J is the loss over all the data, batch by
    batch.

    Args:
        model: the module; its own parameters are the leaves, and those of a loss module with the
            prefix ``loss.``.
        loss: as for `hesse.Cost`. A named loss is a mean over samples of equal weight, ``half_sse``
            a sum.
        data: one pair, or a list of pairs.
        J: another way to write the cost.
        options: more for `hesse.Cost`.
    """
    model = model.double()
    leaves = dict(model.named_parameters())
    if isinstance(loss, nn.Module):
        leaves |= {f"loss.{name}": value for name, value in loss.double().named_parameters()}
    return Subject(
        hesse.Cost(model, loss, data, **options), J or (lambda: written(model, loss, data)), leaves
    )


def written(model: Callable[[Any], Any], loss: Any, data: Any) -> Tensor:
    """The cost of batches in plain PyTorch: a mean of means weighed by samples, or a sum."""
    function = NAMED[loss] if isinstance(loss, str) else loss
    if isinstance(data, tuple):
        return function(model(data[0]), data[1])
    counts = [1 if loss == "half_sse" else len(y) for _, y in data]
    total = sum(count * function(model(x), y) for count, (x, y) in zip(counts, data, strict=True))
    assert isinstance(total, Tensor)
    return total if loss == "half_sse" else total / sum(counts)


def function_of(f: Callable[[dict[str, Tensor]], Tensor], params: Mapping[str, Tensor]) -> Subject:
    """The subject of a function of the parameters alone."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    return Subject(hesse.Cost.from_function(f, params), lambda: f(leaves), leaves)


# ---------------------------------------- the three ways, and what holds of each


def _hessian(cost: hesse.Cost, **options: Any) -> Tensor:
    return hesse.hessian(cost, **options).dense()


def _diagonal(cost: hesse.Cost, **options: Any) -> Tensor:
    return torch.diag(cost.layout.flatten(hesse.diagonal(cost, **options)))


def _operator(cost: hesse.Cost, **options: Any) -> Tensor:
    return hesse.operator(cost, **options) @ torch.eye(cost.layout.size, dtype=cost.dtype)


WAYS: dict[str, Callable[..., Tensor]] = {
    "hessian": _hessian,
    "diagonal": _diagonal,
    "operator": _operator,
}


@functools.cache
def made(make: Make) -> Subject:
    """The subject of a row, made once in a session, always the same; the random state is left as it
    was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(getattr(make, "__qualname__", "").encode()))
        return make()


def off(found: Tensor, expected: Tensor, way: str = "hessian") -> float:
    """The largest error of an entry beside the largest entry of H; where H is zero, the error
    itself."""
    target = torch.diag(expected.diagonal()) if way == "diagonal" else expected
    assert bool(torch.isfinite(found).all()), "not finite"
    return float((found.double() - target).abs().max()) / (float(expected.abs().max()) or 1.0)


def check_right(make: Make, way: str, tolerance: float = TOLERANCE, bare: bool = True) -> None:
    """The numbers are right before any certificate is asked for, where the mechanism is to be right
    too, and H with one."""
    subject = made(make)
    for certify in (False, True) if bare and way == "hessian" else (not bare,):
        found = WAYS[way](subject.cost, certify=certify)
        assert off(found, subject.expected, way) < tolerance, f"certify={certify}"


def check_right_or_refused(make: Make, way: str, match: str, tolerance: float = TOLERANCE) -> None:
    """Either the numbers are right, or an error of hesse's says why there are none."""
    try:
        subject = made(make)
        found = WAYS[way](subject.cost)
    except hesse.HesseError as error:
        assert re.search(match, str(error)), str(error)
    else:
        assert off(found, subject.expected, way) < tolerance


def said(cost: hesse.Cost, certificate: Any) -> str:
    """All that the plan and a certificate tell a reader of a cost."""
    return f"{hesse.plan(cost)}\n{certificate}\n{' '.join(certificate.notes)}"


# ---------------------------------------------------------------- small material


def x(*shape: int) -> Tensor:
    """Normal numbers in float64."""
    return torch.randn(shape, dtype=torch.float64)


def parameter(*shape: int) -> nn.Parameter:
    """A bare parameter of normal numbers in float64."""
    return nn.Parameter(x(*shape))


class Formula(nn.Module):
    """A forward written as one function of the module, its parameters and tensors given by name."""

    def __init__(self, forward: Callable[[Any, Any], Any], **members: Any) -> None:
        super().__init__()
        for name, member in members.items():
            if isinstance(member, Tensor) and not isinstance(member, nn.Parameter):
                self.register_buffer(name, member)
            else:
                setattr(self, name, member)
        self._forward = forward

    def forward(self, x: Any) -> Any:
        return self._forward(self, x)


def linears(count: int, inputs: int, outputs: int | None = None) -> nn.ModuleList:
    """Some dense layers of one shape."""
    return nn.ModuleList(nn.Linear(inputs, outputs or inputs) for _ in range(count))


def flat(parts: Iterable[Tensor]) -> Tensor:
    """One vector."""
    return torch.cat([part.reshape(-1) for part in parts])
