"""Some rows and columns of what a pair of parameter uses brings: the pair with some of its outputs,
and some of the left inputs, so that no larger block than wanted is ever made.

Index letters as in `hesse.exact.contraction.choice`.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hesse.exact.contraction.pair import Pair, PairHessian, PairJacobian, ThroughBottleneck, dense
from hesse.graph.sites import ParameterUse
from hesse.graph.structures import Diagonal, RankOne


@dataclass(frozen=True)
class Box:
    """Some entries (g, o, i) of a use: in all groups, of some outputs and inputs.

    Attributes:
        use: of a single parameter.
        outputs: which of the outputs.
        inputs: which of the features of the pair's side.
        entries: the flat entries of the parameter, (g, o, i).
    """

    use: ParameterUse
    outputs: slice
    inputs: slice
    entries: Tensor

    @property
    def narrow_use(self) -> ParameterUse:
        """The use, as if it had no other entries."""
        g, o, i = self.entries.shape
        return replace(self.use, shape=(g, o, i), index=None, joined_from=())

    def of_outputs(self, outputs: slice) -> "Box":
        """The same with fewer outputs."""
        first = self.outputs.start
        entries = self.entries[:, outputs.start - first : outputs.stop - first]
        return Box(self.use, outputs, self.inputs, entries)


def box(use: ParameterUse, begin: int, wanted: slice, some_inputs: bool) -> Box | None:
    """The least box with some flat entries of a parameter in it; ``None`` where a use has none.

    Args:
        use: of that parameter.
        begin: where its inputs begin among the features.
        wanted: the entries.
        some_inputs: whether inputs may be left out, or outputs only.
    """
    index = torch.arange(use.size, device="cpu") if use.index is None else use.index.cpu()
    entries = index.view(use.shape)
    inside = (entries >= wanted.start) & (entries < wanted.stop)
    if not bool(inside.any()):
        return None
    outputs = _span(inside.any(0).any(1))
    inputs = _span(inside.any(0).any(0)) if some_inputs else slice(0, use.shape[2])
    return Box(
        use,
        outputs,
        slice(begin + inputs.start, begin + inputs.stop),
        entries[:, outputs, inputs],
    )


def _span(held: Tensor) -> slice:
    places = held.nonzero()
    return slice(int(places[0]), int(places[-1]) + 1)


def narrowed(pair: Pair, left: Box, right: Box) -> Iterator[tuple[Pair, Box, Box]]:
    """The pair of some entries with some others, in parts: where S is a diagonal between outputs,
    or a use meets itself, outputs that are the same on both sides are a part of their own, which
    keeps the structure and the symmetry.

    Args:
        pair: of any two uses.
        left: of the left use; all groups of it.
        right: of the right one, with all of its inputs.
    """
    S = pair.hessian
    if isinstance(S, Diagonal | RankOne) and not pair.sizes.vector:
        S = dense(S)
        pair = replace(pair, hessian=S)
    structured = isinstance(S, Diagonal | RankOne) or (
        isinstance(S, ThroughBottleneck) and S.local is not None
    )
    boxes = [(left, right)]
    if pair.same or structured:
        edges = sorted({left.outputs.start, left.outputs.stop, right.outputs.start,
                        right.outputs.stop})  # fmt: skip
        boxes = list(itertools.product(_cut(left, edges), _cut(right, edges)))
    for first, second in boxes:
        hessian = _hessian(pair, first, second)
        jacobian = None if second.use.features is None else _jacobian(pair, first)
        if hessian is None and jacobian is None:
            continue
        inputs_alike = pair.same and first.inputs == second.inputs
        narrow = Pair(
            first.narrow_use,
            second.narrow_use,
            pair.a[..., first.inputs],
            pair.b[..., second.inputs],
            hessian,
            pair.delta[..., second.outputs],
            jacobian,
            pair.input_shape,
            inputs_alike and first.outputs == second.outputs,
            pair.positions,
            inputs_alike,
        )
        yield narrow, first, second


def _cut(whole: Box, edges: list[int]) -> list[Box]:
    inner = [e for e in edges if whole.outputs.start <= e <= whole.outputs.stop]
    return [whole.of_outputs(slice(low, high)) for low, high in itertools.pairwise(inner)]


def _hessian(pair: Pair, left: Box, right: Box) -> PairHessian | None:
    """S of some outputs with some others, which are the same or have none in common where it is
    structured."""
    S, o, p = pair.hessian, left.outputs, right.outputs
    n = len(pair.a)
    if S is None:
        return None
    if isinstance(S, Tensor):
        (_, g, t, _), (_, h, s, _) = pair.a.shape, pair.b.shape
        full = S.reshape(n, h, s, pair.right.shape[1], g, pair.left.shape[1], t)
        return full[:, :, :, p, :, o]
    if isinstance(S, Diagonal):
        # Between dense layers on vectors alone: other arrangements write it out.
        return Diagonal(S.values.reshape(n, -1)[:, o]) if o == p else None
    if isinstance(S, RankOne):
        factor = S.factor.reshape(n, -1)
        if o == p:
            return RankOne(S.diagonal.reshape(n, -1)[:, o], factor[:, o])
        rows = -(factor[:, p].unsqueeze(2) * factor[:, o].unsqueeze(1))
        return rows.view(n, 1, 1, rows.shape[1], 1, rows.shape[2], 1)
    L = S.left[:, :, :, o, left.inputs]
    if S.right is None:
        return ThroughBottleneck(S.coefficients[:, :, :, p], L)
    R = S.right[:, :, :, p, right.inputs]
    if isinstance(S.local, Diagonal):
        local = Diagonal(S.local.values[..., o]) if o == p else None
    else:
        local = None if S.local is None else S.local[:, :, :, p, :, o]
    return ThroughBottleneck(S.coefficients, L, R, local)


def _jacobian(pair: Pair, left: Box) -> PairJacobian | None:
    """D in some outputs."""
    D, o = pair.jacobian, left.outputs
    if D is None:
        return None
    if isinstance(D, ThroughBottleneck):
        return ThroughBottleneck(D.coefficients, D.left[:, :, :, o, left.inputs])
    count = pair.left.shape[1]
    if isinstance(D, Diagonal):
        if o == slice(0, count):
            return D
        values = D.values.reshape(len(D.values), -1)
        rows = values.new_zeros(len(values), count, o.stop - o.start)
        rows[:, o].diagonal(dim1=1, dim2=2).copy_(values[:, o])
        return rows.view(len(rows), 1, 1, count, 1, rows.shape[2], 1)
    full = dense(D)
    assert full is not None
    return full[..., o, :]
