"""One graph against double backward of the user's own function, in every way that hesse gives
second derivatives."""

import copy
import functools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

import hesse
from random_graphs.build import Net
from random_graphs.graphs import Graph
from reference import NAMED, joined, whole

TOLERANCE = 1e-9
# Where double backward itself is not symmetric to this, its own rounding or PyTorch's rules leave
# nothing to compare with.
SOUND = 1e-10


@dataclass(frozen=True)
class Outcome:
    """What came of one way: "right", "wrong", "refused" (a HesseError) or "raw" (any other
    error)."""

    way: str
    verdict: str
    error: float = 0.0
    text: str = ""

    def __str__(self) -> str:
        return (
            f"{self.way}: {self.verdict}"
            + (f" {self.error:.1e}" if self.verdict == "wrong" else "")
            + f" {self.text}".rstrip()
        )


@dataclass(frozen=True)
class Verdict:
    """All that came of a graph. ``path`` is how the plan says it goes; ``unsound`` why there is
    nothing to compare with."""

    seed: int
    outcomes: tuple[Outcome, ...] = ()
    path: str = ""
    unsound: str = ""
    size: int = 0
    seconds: float = 0.0
    description: str = field(default="", repr=False)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.verdict != "right"]


# ---------------------------------------------------------------- the reference


def expected_hessian(graph: Graph, names: tuple[str, ...], theta: Tensor | None = None) -> Tensor:
    """The Hessian (P, P), one double backward for each row, in a copy of the network's own
    parameters, at θ or where they are."""
    net = copy.deepcopy(graph.net)
    leaves = [net.get_parameter(name).requires_grad_() for name in names]
    if theta is not None:
        torch.nn.utils.vector_to_parameters(theta, leaves)
    with sdpa_kernel(SDPBackend.MATH), mock.patch.object(torch, "_weight_norm", _weight_norm):
        cost = objective(graph, net)
        if graph.problem.penalty is not None:
            cost = cost + _penalty(graph.problem.penalty, dict(zip(names, leaves, strict=True)))
    if not cost.requires_grad:  # what is asked about does not enter
        return cost.new_zeros(*(2 * (sum(leaf.numel() for leaf in leaves),)))
    slopes = joined(torch.autograd.grad(cost, leaves, create_graph=True, allow_unused=True), leaves)
    rows = [
        torch.autograd.grad(slope, leaves, retain_graph=True, allow_unused=True)
        if slope.requires_grad
        else [None] * len(leaves)
        for slope in slopes
    ]
    return torch.stack([joined(row, leaves) for row in rows])


def objective(graph: Graph, net: Net) -> Tensor:
    """J, penalty left out: of all the data at once where it can be put together, else Σ w_b L_b / Σ
    w_b, or Σ L_b."""
    loss: Any = NAMED[graph.loss] if isinstance(graph.loss, str) else graph.loss
    if len(graph.batches) == 1:
        x, y = graph.batches[0]
        return loss(net(x), y)
    if _alike(graph):
        x, y = whole(graph.batches)
        return loss(net(x), y)
    shares, total = [], 0.0
    for x, y in graph.batches:
        prediction = net(x)
        weight = graph.weigh(prediction, y) if graph.weigh else 1.0
        shares.append(weight * loss(prediction, y))
        total += weight
    return torch.stack(shares).sum() / (total if graph.weigh else 1.0)


def _weight_norm(v: Tensor, g: Tensor, dim: int) -> Tensor:
    """Written out, because the second derivative of PyTorch's own is wrong."""
    return (
        g * v / v.square().sum([axis for axis in range(v.ndim) if axis != dim], keepdim=True).sqrt()
    )


def _alike(graph: Graph) -> bool:
    """Whether the batches can be put together."""
    return (
        len({x.shape[1:] if isinstance(x, Tensor) else None for x, _ in graph.batches} - {None})
        == 1
    )


def _coupled(graph: Graph) -> str:
    """Why the cost is none of its samples', where the batches are put together; the two values may
    differ then."""
    if len(graph.batches) == 1 or not _alike(graph):
        return ""
    apart = zip(*(pytree.tree_leaves(graph.net(x)) for x, _ in graph.batches), strict=True)
    together = pytree.tree_leaves(graph.net(whole(graph.batches)[0]))
    for parts, part in zip(apart, together, strict=True):
        joined_parts = torch.cat(parts)
        if part.shape != joined_parts.shape or not torch.allclose(part, joined_parts):
            return "the network couples its samples"
    return ""


def _penalty(penalty: Any, parameters: dict[str, Tensor]) -> Tensor:
    if not isinstance(penalty, float):
        return penalty(parameters)
    return (
        penalty / 2 * torch.cat([value.flatten() for value in parameters.values()]).square().sum()
    )


# ---------------------------------------------------------------- the ways


def _blocks(
    H: hesse.BlockHessian, cost: hesse.Cost, expected: Tensor, pairs: list[tuple[str, str]]
) -> tuple[Tensor, Tensor]:
    at = cost.layout.slice
    found = torch.cat([H[a, b].reshape(-1) for a, b in pairs])
    return found, torch.cat([expected[at(a), at(b)].reshape(-1) for a, b in pairs])


def _full(
    graph: Graph, cost: hesse.Cost, expected: Tensor, draw: random.Random, **options: Any
) -> tuple[Tensor, Tensor]:
    return hesse.hessian(cost, **options).dense(), expected


def _block_diagonal(
    graph: Graph, cost: hesse.Cost, expected: Tensor, draw: random.Random, **options: Any
) -> tuple[Tensor, Tensor]:
    H = hesse.hessian(cost, block_diagonal=True, **options)
    return _blocks(H, cost, expected, [(name, name) for name in cost.layout.names])


def _pairs(
    graph: Graph, cost: hesse.Cost, expected: Tensor, draw: random.Random, **options: Any
) -> tuple[Tensor, Tensor]:
    names = cost.layout.names
    pairs = list(
        {
            frozenset(pair): pair
            for pair in ((draw.choice(names), draw.choice(names)) for _ in range(3))
        }.values()
    )
    return _blocks(hesse.hessian(cost, pairs=pairs, **options), cost, expected, pairs)


def _diagonal(
    graph: Graph, cost: hesse.Cost, expected: Tensor, draw: random.Random, **options: Any
) -> tuple[Tensor, Tensor]:
    return cost.layout.flatten(hesse.diagonal(cost, **options)), expected.diagonal()


def _operator(
    graph: Graph, cost: hesse.Cost, expected: Tensor, draw: random.Random, **options: Any
) -> tuple[Tensor, Tensor]:
    made: Any = hesse.operator(cost, **options) @ torch.eye(len(expected), dtype=expected.dtype)
    return made, expected


def _elsewhere(
    graph: Graph, cost: hesse.Cost, expected: Tensor, draw: random.Random, **options: Any
) -> tuple[Tensor, Tensor]:
    """What was captured, at other parameters."""
    generator = torch.Generator().manual_seed(graph.seed)
    theta = cost.theta + 0.1 * torch.randn(len(expected), generator=generator, dtype=expected.dtype)
    there = expected_hessian(graph, cost.layout.names, theta)
    if _unsound(there):
        theta, there = cost.theta, expected
    return hesse.hessian(cost.at(theta), **options).dense(), there


Way = Callable[..., tuple[Tensor, Tensor]]
WAYS: dict[str, Way] = {
    "hessian": _full,
    "memory": functools.partial(_full, memory=20_000),
    "block diagonal": _block_diagonal,
    "pairs": _pairs,
    "diagonal": _diagonal,
    "operator": _operator,
    "elsewhere": _elsewhere,
}


def tried(name: str, graph: Graph, cost: hesse.Cost, expected: Tensor, certify: bool) -> Outcome:
    """One way, without a certificate or with one."""
    label = f"{name}, {'certified' if certify else 'bare'}"
    try:
        found, wanted = WAYS[name](
            graph, cost, expected, random.Random(graph.seed), certify=certify
        )
    except hesse.HesseError as error:
        return Outcome(label, "refused", text=_first_line(error))
    except Exception as error:  # what a user would meet
        return Outcome(label, "raw", text=f"{type(error).__name__}: {_first_line(error)}")
    off = float((found - wanted).abs().max()) / max(_scale(expected), _scale(wanted))
    return Outcome(label, "right" if off <= TOLERANCE else "wrong", off)  # a NaN is wrong


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:160]


def path_of(cost: hesse.Cost) -> str:
    """How the plan says the work goes: by contraction, in part or all by columns, or not
    captured."""
    try:
        plan = hesse.plan(cost)
    except Exception as error:
        return f"plan raised {type(error).__name__}"
    if not plan.captured:
        return "not captured"
    return "contraction" if not plan.by_columns else "columns in part"


def check(
    graph: Graph, ways: tuple[str, ...] = tuple(WAYS), certified: tuple[str, ...] = tuple(WAYS)
) -> Verdict:
    """The graph in the ways named: first bare, so that what a certificate mends is seen, then
    certified."""
    start = time.perf_counter()
    described = graph.described()
    try:
        cost = graph.problem.cost()
    except Exception as error:
        kind = "refused" if isinstance(error, hesse.HesseError) else "raw"
        outcome = Outcome("cost", kind, text=f"{type(error).__name__}: {_first_line(error)}")
        return Verdict(graph.seed, (outcome,), "no cost", description=described)
    try:
        expected = expected_hessian(graph, cost.layout.names)
    except (RuntimeError, NotImplementedError) as error:
        return Verdict(
            graph.seed, unsound=f"no reference, {_first_line(error)}", description=described
        )
    unsound = _unsound(expected) or _coupled(graph)
    if unsound:
        return Verdict(graph.seed, unsound=unsound, description=described)
    outcomes = [tried(name, graph, cost, expected, False) for name in ways]
    path = path_of(cost)
    outcomes += [tried(name, graph, cost, expected, True) for name in certified]
    seconds = time.perf_counter() - start
    return Verdict(graph.seed, tuple(outcomes), path, "", len(expected), seconds, described)


def _scale(expected: Tensor) -> float:
    """What errors are relative to: the largest entry, unless H is zero but for rounding (a loss
    that does not see its input)."""
    return max(float(expected.abs().max()), 1e-4)


def _unsound(expected: Tensor) -> str:
    if not bool(torch.isfinite(expected).all()):
        return "double backward is not finite"
    scale = _scale(expected)
    skew = float((expected - expected.T).abs().max())
    return f"double backward is not symmetric, {skew / scale:.1e}" if skew > SOUND * scale else ""
