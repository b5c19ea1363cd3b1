"""The check of rules: what each operation of a graph is pulled back by, held against plain autograd
on a few samples, once a capture; of the steps of a recurrence, and of layers that are alike, one.

Most rules are PyTorch's own derivatives, taken for many samples and rows side by side, and side
by side some of them are wrong where one by one they are right (`torch.linalg.solve` with a
right-hand side that broadcasts).
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hesse.certificates.drawing import drawn
from hesse.certificates.rounding import ROUNDINGS, noise
from hesse.exact.propagation.evaluation import ChunkEvaluation
from hesse.exact.propagation.pullback import Pullback
from hesse.graph.graph import Node
from hesse.graph.local import Values
from hesse.graph.structures import as_tensor, transposed
from hesse.process.rehearsal import Rehearsal, as_shape

# An operation that takes more bytes than this to check is left to the certificate of the result:
# little beside the least that a plan works in. Below so many entries, of an input by those of an
# input or of the value, none does.
_ROOM, _FEW = 16 * 10**6, 20_000
# Of the norm of what plain autograd gives: wrong rules are off by about their size, and right ones
# by rounding, which is measured where they are off by more than this.
_TOLERANCE = {torch.float32: 1e-2, torch.float64: 1e-6}


def wrong_rule(evaluation: ChunkEvaluation, leaves: list[Any], active: set[str]) -> str | None:
    """Whose derivatives of which operation are wrong; ``None`` where all agree with plain autograd.

    Args:
        evaluation: of the graph.
        leaves: a few samples' tensors in the order of the graph's data values.
        active: the values that derivatives flow through.
    """
    random, checked = torch.Generator().manual_seed(0), set[str]()
    for node, values in evaluation.in_turn(leaves):
        names = tuple(name for name in node.inputs if name in active)
        if not names or node.name not in active:
            continue
        call = _call(node, names, values, evaluation.batched)
        if call in checked:
            continue
        checked.add(call)
        op = Pullback(node, names, values, evaluation.batched)
        # A product with its slope, and nothing else.
        if op.elementwise and op.linear:
            continue
        delta, v = drawn(values[node.name], random), [drawn(values[name], random) for name in names]
        sizes = [part[0].numel() for part in v]
        if max(sizes) * max(*sizes, delta[0].numel()) > _FEW:
            shapes = {name: as_shape(values[name]) for name in (*node.inputs, node.name)}
            rehearsed = Pullback(node, names, shapes, evaluation.batched)
            with Rehearsal() as counts:
                list(_by_rule(rehearsed, shapes, as_shape(delta), [as_shape(part) for part in v]))
            if counts.peak > _ROOM:
                continue
        reference = partial(_one_by_one, op, values, delta, v)
        ours, theirs = list(_by_rule(op, values, delta, v)), reference()
        limits = [
            _TOLERANCE[b.dtype] * float(b.norm() + 1e-6 * a.norm())
            for a, b in zip(ours, theirs, strict=True)
        ]
        # What is not finite is left to the certificate, which finds a way that gives a number.
        gaps = [float((a - b).norm()) for a, b in zip(ours, theirs, strict=True)]
        suspects = [
            place for place, gap in enumerate(gaps) if math.isfinite(gap) and gap > limits[place]
        ]
        rounding = noise(reference) if suspects else []
        if any(gaps[place] > limits[place] + ROUNDINGS * rounding[place] for place in suspects):
            written_out = op.record.pull is not None or op.record.second is not None
            return f"{'its record' if written_out else 'PyTorch'}'s derivatives of {op.node.kind}"
    return None


def _call(node: Node, active: tuple[str, ...], values: Values, batched: set[str]) -> str:
    """The operation with its options, and of each input what a rule may depend on beside its
    numbers."""
    inputs = dict[str, Any]()
    for place, name in enumerate(node.inputs):
        value = values[name]
        form = (*value.shape, value.dtype) if isinstance(value, Tensor) else value
        inputs[name] = place, form, name in batched, name in active
    return repr((node.op, node.given(inputs)))


def _by_rule(op: Pullback, values: Values, delta: Tensor, v: list[Tensor]) -> Iterator[Tensor]:
    """Jᵀ δ for each input, then (Σ δ ∂²) v, by the rule."""
    names = op.active
    for part in op.pull(delta.unsqueeze(1)):
        yield part.squeeze(1)
    blocks = op.local_hessian(delta)
    for i, name in enumerate(names):
        total = torch.zeros_like(values[name])
        for j, other in enumerate(names):
            block = blocks[min(i, j)][max(i, j)]
            if block is None:
                continue
            # (n, |first|, *second), the first input's rows whichever is asked about.
            dense = (
                as_tensor(block)
                if i <= j
                else transposed(as_tensor(block), tuple(values[other].shape[1:]))
            )
            rows = dense.reshape(len(delta), total[0].numel(), -1)
            total = total + torch.bmm(rows, v[j].reshape(len(delta), -1, 1)).reshape(total.shape)
        yield total


def _one_by_one(op: Pullback, values: Values, delta: Tensor, v: list[Tensor]) -> list[Tensor]:
    """The same, one sample at a time."""
    by_sample = [_of_sample(op, values, delta, v, sample) for sample in range(len(delta))]
    return [
        torch.stack(parts)
        for each in zip(*by_sample, strict=True)
        for parts in zip(*each, strict=True)
    ]


def _of_sample(
    op: Pullback, values: Values, delta: Tensor, v: list[Tensor], sample: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The same of one sample by double backward."""
    given = {
        name: values[name][sample] if op.is_batched(name) else values[name]
        for name in op.node.inputs
    }
    leaves = [given[name].detach().clone().requires_grad_() for name in op.active]
    zeros = tuple(torch.zeros_like(leaf) for leaf in leaves)
    value = (op.function(given)(*leaves) * delta[sample]).sum()
    if not value.requires_grad:
        return zeros, zeros
    slopes = torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True)
    outputs = [
        (slope, part[sample]) for slope, part in zip(slopes, v, strict=True) if slope.requires_grad
    ]
    if not outputs:
        return tuple(slope.detach() for slope in slopes), zeros
    # Those that depend on the inputs: of the others the derivative is zero.
    differentiable, directions = zip(*outputs, strict=True)
    return tuple(slope.detach() for slope in slopes), torch.autograd.grad(
        differentiable, leaves, directions, materialize_grads=True
    )
