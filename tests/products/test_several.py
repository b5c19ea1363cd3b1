"""A traced product for several v at once, operation by operation, and in fewer of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from hesse.capture import overwriting, several, several_rules
from hesse.capture.straight_line import TracedProduct, aten, trace
from hesse.derivatives import ForwardOverReverse, TensorFunction

Function = Callable[[Tensor, Tensor], Tensor]
COUNT = 5


def _recurrent(a: Tensor, b: Tensor) -> Tensor:
    state, states = torch.zeros(3, 4, dtype=a.dtype), []
    for _ in range(3):
        state = torch.tanh(state @ a + b)
        states.append(state)
    return torch.stack(states)[-1].square().sum()


def _gated(a: Tensor, b: Tensor) -> Tensor:
    gates = torch.sigmoid(torch.cat([a @ a, a * b], 1))
    first, second = gates.chunk(2, 1)
    return (first * second.tanh()).sum()


def _image(a: Tensor, b: Tensor) -> Tensor:
    return a.reshape(1, 1, 4, 4) + b.sum()


def _factored(a: Tensor, b: Tensor) -> Tensor:
    """With systems from both sides, of one triangle and of several."""
    solve = torch.linalg.solve_triangular
    factor = torch.linalg.cholesky(a @ a.T + 5 * torch.eye(4).double() + torch.outer(b, b))
    left = solve(factor, a.sin(), upper=False)
    right = solve(factor.triu(-1).T, a[:3].cos(), upper=True, left=False, unitriangular=True)
    fixed = torch.arange(1.0, 17.0).double().reshape(4, 4)
    sides = solve(fixed.expand(2, 4, 4), a.exp().expand(2, 4, 4), upper=True)
    return left.square().sum() + right.sin().sum() + factor.diagonal().log() @ b + sides.cos().sum()


# Each of a (4, 4) matrix and a vector of 4.
FUNCTIONS: dict[str, Function] = {
    "dense": lambda a, b: (torch.tanh(torch.ones(3, 4).double() @ a + b) @ a).square().sum(),
    "recurrent": _recurrent,
    "gated": _gated,
    "batched": lambda a, b: torch.bmm(
        torch.softmax(torch.bmm(a.expand(2, 4, 4), (a * b).expand(2, 4, 4)) / 3, -1),
        a.sin().expand(2, 4, 4),
    ).square().sum(),
    "axes": lambda a, b: (
        a.unsqueeze(0).permute(2, 0, 1).squeeze(1)[1:, 2]
        * b.expand(4, 4).transpose(0, 1).exp()[1:, 0]
    ).sum() ** 2,
    "unbound": lambda a, b: torch.stack([(row * b).sum() ** 3 for row in a.unbind(1)]).sum()
    + a.mean((0, 1)) ** 2,
    "split": lambda a, b: torch.stack(
        [(part.sum() * b).exp().sum() for part in torch.split(a.sin(), [1, 3], 0)]
    ).sum(),
    "normalised": lambda a, b: F.layer_norm(a.exp(), (4,), b, b).square().sum(),
    "convolved": lambda a, b: (
        F.conv2d(_image(a, b).tanh(), a.reshape(4, 1, 2, 2), b, padding=1).square().sum()
    ),
    "shifted": lambda a, b: F.conv2d(a.reshape(1, 1, 4, 4), a.reshape(4, 1, 2, 2), b).exp().sum(),
    "averaged": lambda a, b: (
        F.avg_pool2d((_image(a, b) * a).tanh(), 2).exp().sum()
        + F.avg_pool2d((_image(a, b) * a).tanh(), 2, stride=1, padding=1).exp().sum()
        + F.avg_pool2d((_image(a, b).expand(1, 1, 4, 4)).repeat(1, 1, 40, 40).sin(), 2).exp().sum()
    ),
    "convolved twice": lambda a, b: (
        F.conv2d(F.conv2d(_image(a, b), a[:, :2].reshape(2, 1, 2, 2)).tanh(), b.reshape(1, 2, 1, 2))
        .exp()
        .sum()
    ),
    "factored": _factored,
    "rectified": lambda a, b: F.gelu((a.relu() @ b.reshape(4, 1)) * F.elu(a)).sum(),
    "used again": lambda a, b: ((a * b) + (a * b).t()).sin().sum() * (a * b).cos().sum(),
    "in float32": lambda a, b: (a.float().sin().double() * b).square().sum(),
}  # fmt: skip


def traced(function: Function) -> tuple[TracedProduct, list[Tensor], list[Tensor]]:
    """The product of a function's Hessian, what is kept of it, and where."""
    torch.manual_seed(0)
    theta = [torch.randn(4, 4).double(), torch.randn(4).double()]

    def product(theta: list[Tensor], inputs: list[Tensor], v: list[Tensor]) -> list[Tensor]:
        return ForwardOverReverse().second(TensorFunction(lambda t: function(*t)), theta)(v)

    program = trace(product, theta, [])
    return program, program.prepare(*theta), theta


@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_by_double_backward(name: str) -> None:
    """All of v, and each parameter's unit vectors."""
    program, kept, theta = traced(FUNCTIONS[name])
    sizes = [p.numel() for p in theta]

    def flat(x: Tensor) -> Tensor:
        parts = [p.reshape(part.shape) for p, part in zip(x.split(sizes), theta, strict=True)]
        return FUNCTIONS[name](*parts)

    H = torch.autograd.functional.hessian(flat, torch.cat([p.flatten() for p in theta]))
    assert isinstance(H, Tensor)
    close = 1e-6 if "32" in name else 1e-11
    V = torch.randn(COUNT, len(H)).double()
    columns = [v.reshape(COUNT, *p.shape) for v, p in zip(V.split(sizes, 1), theta, strict=True)]
    parts = [part.flatten(1) for part in program.several(*kept, *columns)]
    assert torch.allclose(torch.cat(parts, 1), V @ H, rtol=close, atol=close)
    for place, (parameter, rows) in enumerate(zip(theta, H.split(sizes), strict=True)):
        ones = torch.tensor([3, 0, 2])
        units = F.one_hot(ones, parameter.numel()).double().reshape(3, *parameter.shape)
        parts = program.rows(place, frozenset({0, 1}))(*kept, units, ones)
        found = torch.cat([part.flatten(1) for part in parts], 1)
        assert torch.allclose(found, rows[ones], rtol=close, atol=close)


@pytest.mark.parametrize(
    ("axes", "options"),
    [
        (1, {"stride": 2, "padding": 1}),
        (2, {}),
        (2, {"stride": (2, 1), "padding": (0, 2), "groups": 2}),
        (2, {"dilation": (2, 1), "padding": 1}),
        (3, {"stride": 2, "groups": 2}),
    ],
)
def test_unit_kernels_are_placed(axes: int, options: dict[str, Any]) -> None:
    """Their products with v are rows of H, and no convolution is left on the way up."""
    groups = options.get("groups", 1)
    torch.manual_seed(0)
    x, y = torch.randn(2, 2, *[6] * axes).double(), torch.randn(()).double()
    kernel = torch.randn(4, 2 // groups, *[2] * axes).double()
    convolve = getattr(F, f"conv{axes}d")

    def function(w: Tensor, b: Tensor) -> Tensor:
        return (convolve(x, w, b.expand(4), **options).tanh() * y).exp().sum()

    def product(theta: list[Tensor], inputs: list[Tensor], v: list[Tensor]) -> list[Tensor]:
        return ForwardOverReverse().second(TensorFunction(lambda t: function(*t)), theta)(v)

    theta = [kernel, torch.randn(1).double()]
    program = trace(product, theta, [])
    rows = program.rows(0, frozenset({0, 1}))
    assert rows.graph.find_nodes(op="call_function", target=several_rules.kernels_placed)
    ones = torch.tensor([kernel.numel() - 1, 0, 5])
    units = F.one_hot(ones, kernel.numel()).double().reshape(3, *kernel.shape)
    found = rows(*program.prepare(*theta), units, ones)
    for unit, *parts in zip(units, *found, strict=True):
        _, expected = torch.autograd.functional.hvp(
            function, tuple(theta), (unit, torch.zeros(1).double())
        )
        for part, wanted in zip(parts, expected, strict=True):
            assert torch.allclose(part, wanted, rtol=1e-11, atol=1e-11)


def test_every_rule_is_used_above() -> None:
    used = set[Any]()
    for function in FUNCTIONS.values():
        program, *_ = traced(function)
        used.update(node.target for node in program.apply.graph.nodes)
    # What a trace has in its place, or what only other versions of PyTorch give.
    others = {aten.baddbmm.default, aten.clone.default, aten.unsafe_split.Tensor}
    assert several_rules._RULES.keys() - used <= others


def test_nothing_is_left_to_vmap() -> None:
    """Of the operations of a dense, a recurrent and a batched function."""
    for name in ("dense", "recurrent", "gated", "batched", "normalised"):
        program, *_ = traced(FUNCTIONS[name])
        assert not program.several.graph.find_nodes(op="call_function", target=several.vmapped)


def test_fewer_operations() -> None:
    """In a recurrence one accumulator for all times, and one factor instead of two."""
    program, *_ = traced(FUNCTIONS["recurrent"])
    side = program.side(0, frozenset({0}))
    targets = [node.target for node in side.graph.nodes]
    assert aten.add.Tensor not in targets and aten.tanh_backward.default not in targets
    assert aten.stack.default not in targets and aten.select_backward.default not in targets
    rows = [node.target for node in program.rows(0, frozenset({0})).graph.nodes]
    assert overwriting.columns_added_ in rows and aten.baddbmm_.default in rows


def test_what_is_seen_later_is_not_written_over() -> None:
    """Neither itself nor through a view, nor an argument of the caller's."""
    graph = fx.Graph()
    a, b = graph.placeholder("a"), graph.placeholder("b")
    fresh = graph.call_function(aten.mul.Tensor, (a, b))
    turned = graph.call_function(aten.transpose.int, (fresh, 0, 1))
    first = graph.call_function(aten.add.Tensor, (fresh, b))
    second = graph.call_function(aten.mul.Tensor, (first, turned))
    third = graph.call_function(aten.add.Tensor, (a, b))
    graph.output([second, third])
    sizes = {node: (2, 2) for node in (a, b, fresh, turned, first, second, third)}
    overwriting.overwrite(graph, {fresh, first, second, third}, sizes)
    assert first.target is aten.add.Tensor and third.target is aten.add.Tensor
    assert second.target is aten.mul_.Tensor
    x, y = torch.randn(2, 2), torch.randn(2, 2)
    given = x.clone(), y.clone()
    results = fx.GraphModule({}, graph)(x, y)
    assert torch.equal(results[0], (x * y + y) * (x * y).t()) and torch.equal(results[1], x + y)
    assert torch.equal(x, given[0]) and torch.equal(y, given[1])
