"""Every use of a parameter counts: factors of a product, several uses at one operation, two layers'
parts in one tensor."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hesse
from certificates.kinds import (
    Formula,
    Make,
    Subject,
    check_right,
    function_of,
    made,
    of,
    off,
    parameter,
    x,
)


def vectors(
    forward: Callable[[Any, Tensor], Tensor],
    outputs: int = 2,
    loss: Any = "half_sse",
    **members: Any,
) -> Subject:
    """x of two numbers for each of four samples."""
    return of(Formula(forward, **members), loss, (x(4, 2), x(4, outputs)))


def shaped(
    forward: Callable[[Any, Tensor], Tensor],
    inputs: tuple[int, ...],
    targets: tuple[int, ...],
    train: bool = True,
    **members: Any,
) -> Subject:
    """x of a shape, the target of another."""
    return of(Formula(forward, **members).train(train), "half_sse", (x(4, *inputs), x(4, *targets)))


# ---------------------------------------------------------------- factors and forms of a product

PRODUCTS: dict[str, Make] = {
    "addmm, alpha": lambda: vectors(
        lambda m, z: torch.addmm(m.b, z, m.w, alpha=0.5), 3, w=parameter(2, 3), b=parameter(3)
    ),
    "addmm, beta": lambda: vectors(
        lambda m, z: torch.addmm(m.b, z, m.w, beta=-2), 3, w=parameter(2, 3), b=parameter(3)
    ),
    "addmm, both, as a method": lambda: vectors(
        lambda m, z: torch.tanh(m.b.addmm(z, m.w, beta=0.3, alpha=3)),
        3,
        w=parameter(2, 3),
        b=parameter(3),
    ),
    "addmm, without": lambda: vectors(
        lambda m, z: torch.tanh(torch.addmm(m.b, z, m.w)), 3, w=parameter(2, 3), b=parameter(3)
    ),
    "addmm of values": lambda: vectors(
        lambda m, z: torch.addmm(torch.tanh(z @ m.v), torch.sigmoid(z), m.w, beta=0.5, alpha=2),
        v=parameter(2, 2),
        w=parameter(2, 2),
    ),
    "LoRA by hand, addmm": lambda: vectors(
        lambda m, z: torch.addmm(m.base(z), z @ m.A, m.B, alpha=0.25),
        base=nn.Linear(2, 3).requires_grad_(False),
        outputs=3,
        A=parameter(2, 1),
        B=parameter(1, 3),
    ),
    "LoRA by hand, two layers": lambda: vectors(
        lambda m, z: m.head(
            torch.tanh(torch.addmm(m.base(z), z @ m.A.T, m.B.T, alpha=2, beta=0.5))
        ),
        base=nn.Linear(2, 3),
        head=nn.Linear(3, 2),
        A=parameter(1, 2),
        B=parameter(3, 1),
    ),
    "baddbmm": lambda: shaped(
        lambda m, z: torch.baddbmm(
            m.b.expand(len(z), 3, 2), z, m.w.expand(len(z), 2, 2), alpha=0.5, beta=3
        ),
        (3, 2),
        (3, 2),
        w=parameter(2, 2),
        b=parameter(2),
    ),
    "baddbmm, by head": lambda: shaped(
        lambda m, z: torch.baddbmm(
            m.b, torch.tanh(z).transpose(0, 1), m.w, alpha=-1.5, beta=0.5
        ).transpose(0, 1),
        (3, 2),
        (3, 2),
        w=parameter(3, 2, 2),
        b=parameter(3, 1, 2),
    ),
    "addbmm": lambda: function_of(
        lambda p: torch.addbmm(p["c"], p["a"], p["b"], alpha=0.5, beta=2).tanh().sum(),
        {"a": x(2, 2, 2), "b": x(2, 2, 2), "c": x(2, 2)},
    ),
    "addmv": lambda: vectors(
        lambda m, z: torch.vmap(lambda row: torch.addmv(m.b, m.w, row, alpha=0.5, beta=2))(
            z
        ).tanh(),
        w=parameter(2, 2),
        b=parameter(2),
    ),
    "add, alpha, of a bias": lambda: vectors(
        lambda m, z: torch.add(z @ m.w, m.b, alpha=3).tanh(), w=parameter(2, 2), b=parameter(2)
    ),
}

# ---------------------------------------------------------------- several uses at one operation

SEVERAL: dict[str, Make] = {
    "a bias that is also an input": lambda: vectors(
        lambda m, z: z @ m.v + F.linear(m.b[None], m.w, m.b),
        3,
        v=parameter(2, 3),
        w=parameter(3, 3),
        b=parameter(3),
    ),
    "a learned start of a recurrence": lambda: vectors(
        lambda m, z: torch.tanh(
            z @ m.v + F.linear(torch.tanh(F.linear(m.b[None], m.w, m.b)), m.w, m.b)
        ),
        v=parameter(2, 2),
        w=parameter(2, 2),
        b=parameter(2),
    ),
    "a weight by itself": lambda: vectors(
        lambda m, z: torch.tanh(z @ (m.w @ m.w)), w=parameter(2, 2)
    ),
    "input, weight and bias": lambda: vectors(
        lambda m, z: torch.tanh(z + F.linear(m.w[:1], m.w, m.w[1])), w=parameter(2, 2)
    ),
    "addmm with itself added": lambda: vectors(
        lambda m, z: torch.addmm(z, z @ m.w, m.w, beta=0.5).tanh(), w=parameter(2, 2)
    ),
    "a scale that is also a shift": lambda: vectors(
        lambda m, z: torch.tanh(z * m.s + m.s), s=parameter(2)
    ),
    "a kernel that is also a signal": lambda: shaped(
        lambda m, z: F.conv1d(z, m.w, padding=1) + F.conv1d(m.w, m.w, m.b, padding=1).mean(0),
        (2, 3),
        (2, 3),
        w=parameter(2, 2, 3),
        b=parameter(2),
    ),
    "a row that is looked up and multiplied with": lambda: of(
        Formula(lambda m, i: F.linear(torch.tanh(F.embedding(i, m.w)), m.w), w=parameter(3, 2)),
        "cross_entropy",
        (torch.tensor([0, 1, 2, 1]), torch.tensor([1, 0, 2, 2])),
    ),
    "a normalisation's scale that is also its input": lambda: vectors(
        lambda m, z: (
            F.layer_norm(z + m.s, (2,), m.s, m.s)
            + F.layer_norm(m.s[None] * torch.tensor([1.0, 2.0]), (2,), m.s, m.b)
        ),
        s=parameter(2),
        b=parameter(2),
    ),
    "a bilinear form of the parameter": lambda: vectors(
        lambda m, z: F.bilinear(z, m.w[0].expand(len(z), 2), m.w[None].expand(2, 2, 2), m.w[1]),
        w=parameter(2, 2),
    ),
}

# ---------------------------------------- a weight and a bias that are views of one parameter

VIEWS: dict[str, Make] = {
    "linear, a row": lambda: vectors(lambda m, z: F.linear(z, m.w, m.w[0]), w=parameter(2, 2)),
    "linear, one number": lambda: of(
        Formula(lambda m, z: F.linear(z, m.w, m.w.view(-1)), w=parameter(1, 1)),
        "half_sse",
        (x(4, 1), x(4, 1)),
    ),
    "linear, transposed": lambda: vectors(
        lambda m, z: torch.tanh(F.linear(z, m.w.T, m.w[0])), w=parameter(2, 2)
    ),
    "linear, slices of one vector that overlap": lambda: vectors(
        lambda m, z: F.linear(z, m.w[:4].view(2, 2), m.w[2:4]).tanh(), w=parameter(5)
    ),
    "addmm, a row": lambda: vectors(
        lambda m, z: torch.addmm(m.w[0], z, m.w, alpha=0.5), w=parameter(2, 2)
    ),
    "conv1d": lambda: shaped(
        lambda m, z: F.conv1d(z, m.w, m.w[:, 0, 0]).tanh(), (2, 3), (2, 2), w=parameter(2, 2, 2)
    ),
    "conv_transpose1d": lambda: shaped(
        lambda m, z: F.conv_transpose1d(z, m.w, m.w[0, :, 0]), (2, 2), (2, 3), w=parameter(2, 2, 2)
    ),
    "layer norm, the same": lambda: vectors(
        lambda m, z: F.layer_norm(z, (2,), m.w, m.w), w=parameter(2)
    ),
    "layer norm, slices that overlap": lambda: vectors(
        lambda m, z: F.layer_norm(z, (2,), m.w[:2], m.w[1:]), w=parameter(3)
    ),
    "group norm": lambda: shaped(
        lambda m, z: F.group_norm(z, 2, m.w, m.w).tanh(), (2, 3), (2, 3), w=parameter(2)
    ),
    "batch norm, training": lambda: vectors(
        lambda m, z: F.batch_norm(z, None, None, m.w, m.w, training=True), w=parameter(2)
    ),
    "batch norm, statistics given": lambda: vectors(
        lambda m, z: F.batch_norm(z, m.mean, m.var, m.w[:2], m.w[1:]).tanh(),
        w=parameter(3),
        mean=x(2),
        var=x(2).abs() + 1,
    ),
    "instance norm": lambda: shaped(
        lambda m, z: F.instance_norm(z, weight=m.w, bias=m.w), (2, 3), (2, 3), w=parameter(2)
    ),
}

KINDS = PRODUCTS | SEVERAL | VIEWS


@pytest.mark.some(of=2)
@pytest.mark.parametrize("way", ["hessian", "diagonal"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_right(kind: Make, way: str) -> None:
    check_right(kind, way)


@pytest.mark.parametrize(
    "name",
    [
        "addmm, both, as a method",
        "LoRA by hand, addmm",
        "a bias that is also an input",
        "linear, a row",
    ],
)
def test_the_operator_agrees(name: str) -> None:
    check_right(KINDS[name], "operator")


@pytest.mark.parametrize(
    "name", ["addmm, alpha", "LoRA by hand, two layers", "a bias that is also an input"]
)
def test_each_block_alone(name: str) -> None:
    """A use that is dropped may show in one block only."""
    subject = made(KINDS[name])
    layout = subject.cost.layout
    for place, a in enumerate(layout.names):
        for b in layout.names[place:]:
            block = hesse.hessian(subject.cost, pairs=[(a, b)], certify=False)[a, b]
            expected = subject.expected[layout.slice(a), layout.slice(b)].reshape(block.shape)
            assert float((block - expected).abs().max()) < 1e-9 * float(
                subject.expected.abs().max()
            ), (a, b)


def test_the_usual_layer_by_addmm_is_contracted() -> None:
    """alpha and beta are read, not fled from."""
    subject = made(KINDS["addmm, without"])
    assert {block.strategy for block in hesse.plan(subject.cost).blocks} == {"contraction"}
    assert off(hesse.hessian(subject.cost).dense(), subject.expected) < 1e-9
