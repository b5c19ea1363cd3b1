"""How columns and curvature are pulled back through one operation, and what its own second
derivative adds.

What a record declares or writes out (`hesse.operations`) is a fast path, never a condition of being
right: an operation without one is pulled back by automatic differentiation, and its second
derivative is taken by reverse over reverse, per sample. (Not by `torch.func.hessian`: with torch
2.13 its forward-over-`jacrev` is silently wrong for normalisation layers.)

Index letters: n sample, k column, then the axes of the value.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jacrev, vjp, vmap

from hesse.graph.graph import Node
from hesse.graph.local import Local, Values
from hesse.graph.structures import (
    Columns,
    Curvature,
    Diagonal,
    LowRank,
    RankOne,
    as_tensor,
    flat,
    reshaped,
    transposed,
)
from hesse.operations.record import Structure
from hesse.operations.registry import record_of

# A curvature is kept by its factor where an operation's input has at least so many times the
# entries of its value.
_WIDENS = 2


def is_costly(node: Node, active: tuple[str, ...], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether Jᵀ differs from sample to sample and is neither diagonal nor written out."""
    record = record_of(node)
    constant = (
        record.is_linear(node, active)
        and not record.has(Structure.PIECEWISE_LINEAR)
        and len(node.inputs) == len(active)
    )
    written_out = record.pull is not None and not record.costly
    return not constant and not written_out and not record.is_elementwise(node, active, shapes)


class Pullback(Local):
    """A node at the values of some samples, with what pulls columns and curvature back through it.

    Args:
        node: the operation.
        active: its inputs that derivatives flow through.
        values: every value by name, with a leading sample axis where it is in ``batched``.
        batched: the names of the values that have a sample axis.
        low_rank: whether a curvature of few entries is to be kept as such on its way down.
    """

    def __init__(
        self,
        node: Node,
        active: tuple[str, ...],
        values: Values,
        batched: set[str],
        low_rank: bool = False,
    ) -> None:
        super().__init__(node, active, values, batched)
        self.record = record_of(node)
        shapes = {name: tuple(values[name].shape)[name in batched :] for name in node.inputs}
        self.elementwise = self.record.is_elementwise(node, active, shapes)
        self.linear = self.record.is_linear(node, active)
        varying = [name for name in node.inputs if name in batched and name not in active]
        # One Jacobian serves all samples.
        self.constant = (
            self.linear
            and not varying
            and not self.record.has(Structure.PIECEWISE_LINEAR | Structure.FLAT)
        )
        self.low_rank = low_rank
        self._slopes: tuple[Tensor, Tensor] | None = None
        self._jacobian: tuple[Tensor, ...] | None = None

    @property
    def is_light(self) -> bool:
        """Whether a pull costs little to start, so that columns need not be joined for it."""
        return self.elementwise or self.record.pull is not None

    def slopes(self) -> tuple[Tensor, Tensor]:
        """f'(x) and f''(x) of an elementwise operation, by differentiating Σ f(x) once and
        twice."""
        if self._slopes is None:
            f = self.function({name: self._values[name] for name in self.node.inputs})
            x = self._values[self.active[0]]
            first = grad(lambda x: f(x).sum())
            if self.linear:
                self._slopes = first(x), torch.zeros_like(x)
            else:
                slope, back, *_ = vjp(first, x)
                self._slopes = slope, back(torch.ones_like(x))[0]
        return self._slopes

    def pull(self, columns: Tensor) -> tuple[Tensor, ...]:
        """Jᵀ on columns: (n, k, *value) -> (n, k, *input), one for each active input."""
        if self.elementwise:
            return (columns * self.slopes()[0].unsqueeze(1),)
        if self.record.pull is not None:
            pulled = self.record.pull(self, columns)
            if pulled is not None:
                return pulled
        if self.constant:
            return self._pull_constant(columns)
        return self._pull_by_sample(columns)

    def _pull_constant(self, columns: Tensor) -> tuple[Tensor, ...]:
        """One Jacobian for all samples: the columns of all samples are one batch."""
        given = {name: self._values[name] for name in self.node.inputs if name not in self.active}
        at = [self._values[name][0] for name in self.active]
        _, back, *_ = vjp(self.function(given), *at)
        n, k = columns.shape[:2]
        return tuple(
            part.reshape(n, k, *part.shape[1:]) for part in vmap(back)(columns.flatten(0, 1))
        )

    def _pull_by_sample(self, columns: Tensor) -> tuple[Tensor, ...]:
        names = list(self.node.inputs)
        axes = tuple(0 if name in self._batched else None for name in names)

        def one(columns: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
            given = dict(zip(names, inputs, strict=True))
            _, back, *_ = vjp(self.function(given), *(given[name] for name in self.active))
            return vmap(back)(columns)

        return vmap(one, in_dims=(0, *axes))(columns, *(self._values[name] for name in names))

    def pull_diagonal(self, columns: Diagonal) -> tuple[Columns, ...]:
        """Jᵀ on diagonal columns; diagonal again where the operation allows."""
        if self.elementwise:
            return (Diagonal(columns.values * self.slopes()[0]),)
        if self.record.has(Structure.RELABELS):
            return (
                Diagonal(columns.values.reshape(self._values[self.active[0]].shape), columns.unit),
            )
        if not self.constant:
            return self.pull(columns.dense())
        n = len(columns.values)
        if columns.unit:
            return tuple(j.expand(n, *j.shape[1:]) for j in self.jacobian())
        rows = columns.values.reshape(n, -1)
        return tuple(rows.reshape(n, -1, *(1,) * (j.ndim - 2)) * j for j in self.jacobian())

    def jacobian(self) -> tuple[Tensor, ...]:
        """J of a constant operation, (1, entries, *input), one for each active input."""
        if self._jacobian is None:
            self._jacobian = self.pull(
                Diagonal(torch.ones_like(self._values[self.node.name][:1])).dense()
            )
        return self._jacobian

    def pull_curvature(
        self, own: Curvature, halves: bool, thin: bool = False
    ) -> "tuple[tuple[Columns, ...], list[list[Curvature | None]]]":
        """Jᵀ S J of the value's curvature S.

        Args:
            own: S, (n, entries, *value) or its structure; nothing else lies in its memory, and it
                may be written over.
            halves: whether the columns S J, (n, entries, *input), are wanted too.
            thin: of the block of a single input only the diagonal will be used.

        Returns:
            The halves, one for each active input (empty if not wanted), and the blocks, (n, |input
            i|, *input j) for i <= j. They may share memory.
        """
        single = len(self.active) == 1
        if single and not halves and self.record.has(Structure.RELABELS):
            return (), [[reshaped(own, self._values[self.active[0]].shape)]]
        if single and self.elementwise and (not halves or isinstance(own, Diagonal)):
            slope = self.slopes()[0]
            if isinstance(own, Diagonal):
                half = Diagonal(own.values * slope)
                return (half,), [[Diagonal(half.values * slope)]]
            if isinstance(own, RankOne):
                return (), [[RankOne(own.diagonal * slope.square(), own.factor * slope)]]
            if isinstance(own, LowRank):
                return (), [[own.scaled(slope)]]
            # In place where it can be: memory fresh from the system would take longer to fill than
            # to multiply.
            once = (own.mul_ if own.is_contiguous() else own.mul)(slope.unsqueeze(1))
            return (), [[once.mul_(slope.reshape(len(own), -1, *(1,) * (own.ndim - 2)))]]
        if thin and self.constant and not halves:
            return (), [[self._pull_thin(own)]]
        if single and self.constant and not thin:
            known = self._pull_low_rank(own, halves)
            if known is not None:
                return known
        pulled = self._pull_half(own)
        shape = self._values[self.node.name].shape[1:]
        blocks: list[list[Curvature | None]] = [[None] * len(self.active) for _ in self.active]
        for i, half in enumerate(pulled):
            blocks[i][i:] = self.pull(
                transposed(half if isinstance(half, Tensor) else half.dense(), shape)
            )[i:]
        return pulled if halves else (), blocks

    def _pull_low_rank(
        self, own: Curvature, halves: bool
    ) -> "tuple[tuple[Columns, ...], list[list[Curvature | None]]] | None":
        """A curvature of few entries goes down to many by its factor: Jᵀ (Cᵀ K C + diag r) J = (C
        J)ᵀ K (C J) + Jᵀ diag(r) J."""
        x, z = self._values[self.active[0]], self._values[self.node.name]
        if not isinstance(own, LowRank):
            if not self.low_rank or x[0].numel() < _WIDENS * z[0].numel():
                return None
            jacobian = self.jacobian()[0]
            columns = jacobian.expand(len(z), *jacobian.shape[1:])
            return self._pull_half(own) if halves else (), [[LowRank(columns, own)]]
        columns = self.pull(own.columns)[0]
        if own.rest is None and not halves:
            return (), [[LowRank(columns, own.core)]]
        rows = flat(columns)
        n, size = len(rows), rows.shape[2]
        weighed = torch.bmm(own.core_matrix(), rows)
        made = torch.bmm(rows.mT, weighed)
        jacobian = self.jacobian()[0].reshape(-1, size)
        if own.rest is not None:
            # Laid out so that all samples' rows make one matrix.
            rest = own.rest.reshape(n, 1, -1) * jacobian.mT.contiguous()  # (n, |x|, |z|)
            made += (rest.reshape(n * size, -1) @ jacobian).view(n, size, size)
        block: list[list[Curvature | None]] = [[made.reshape(n, size, *x.shape[1:])]]
        if not halves:
            return (), block
        half = torch.bmm(flat(own.columns).mT, weighed)
        if own.rest is not None:
            half.addcmul_(own.rest.reshape(n, -1, 1), jacobian)
        return (half.reshape(n, -1, *x.shape[1:]),), block

    def _pull_thin(self, own: Curvature) -> Diagonal:
        """The diagonal of Jᵀ S J alone, J being the same for all samples: Σ_kl J_k S_kl J_l."""
        x = self._values[self.active[0]]
        jacobian = self.jacobian()[0].reshape(-1, x[0].numel())
        n = len(x)
        if isinstance(own, Tensor | LowRank):
            entries = (
                (as_tensor(own).reshape(n, -1, len(jacobian)) @ jacobian).mul_(jacobian).sum(1)
            )
        else:
            weights = own.values if isinstance(own, Diagonal) else own.diagonal
            entries = weights.reshape(n, -1) @ jacobian.square()
            if isinstance(own, RankOne):
                entries -= (own.factor.reshape(n, -1) @ jacobian).square()
        return Diagonal(entries.reshape(x.shape))

    def _pull_half(self, own: Curvature) -> tuple[Columns, ...]:
        if isinstance(own, Diagonal):
            return self.pull_diagonal(own)
        if isinstance(own, RankOne):
            n = len(own.factor)
            straight, factor = (
                self.pull_diagonal(Diagonal(own.diagonal)),
                self.pull(own.factor.unsqueeze(1)),
            )
            rows = own.factor.reshape(n, -1)
            dense = [part if isinstance(part, Tensor) else part.dense() for part in straight]
            return tuple(
                s - rows.reshape(n, -1, *(1,) * (s.ndim - 2)) * f
                for s, f in zip(dense, factor, strict=True)
            )
        return self.pull(as_tensor(own))

    def curvature(self, delta: Tensor) -> "list[list[Curvature | None]]":
        """Σ δ · ∂²value/∂inputs², blocks (n, entries of one active input, *other active input).

        Args:
            delta: (n, *value), the loss's first derivative in the value.
        """
        if self.linear:
            return [[None] * len(self.active) for _ in self.active]
        if self.elementwise:
            return [[Diagonal(self.slopes()[1] * delta)]]
        if self.record.second is not None:
            known = self.record.second(self, delta)
            if known is not None:
                return known
        names = list(self.node.inputs)
        axes = tuple(0 if name in self._batched else None for name in names)
        places = tuple(range(len(self.active)))

        def one(delta: Tensor, *inputs: Any) -> Any:
            given = dict(zip(names, inputs, strict=True))
            scalar = self.function(given)
            return jacrev(
                grad(lambda *a: (scalar(*a) * delta).sum(), argnums=places), argnums=places
            )(*(given[name] for name in self.active))

        blocks = vmap(one, in_dims=(0, *axes))(delta, *(self._values[name] for name in names))
        sizes = [math.prod(self._values[name].shape[1:]) for name in self.active]
        return [
            [
                blocks[i][j].reshape(len(delta), sizes[i], *self._values[self.active[j]].shape[1:])
                for j in places
            ]
            for i in places
        ]
