"""How cotangents and Hessians are pulled back through one operation, and what its own second
derivative adds.

    cotangents   u  ->  Jᵀ u                   a vjp, for many u and many samples at once
    Hessian      S  ->  Jᵀ S J + Σ δ · ∂²g     with J and ∂²g of the operation g itself

What a record declares or writes out (`hesse.operations`) is a fast path, never a condition of being
right: an operation without one is pulled back by automatic differentiation, and its second
derivative is taken by reverse over reverse, per sample. (Not by `torch.func.hessian`: with torch
2.13 its forward-over-`jacrev` is silently wrong for normalisation layers.)

Index letters: n sample, k row of cotangents, then the axes of the value.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jacrev, vjp, vmap

from hesse.graph.graph import Node
from hesse.graph.local import Local, Values
from hesse.graph.structures import (
    Cotangents,
    Diagonal,
    LowRank,
    RankOne,
    ValueHessian,
    as_tensor,
    flat,
    reshaped,
    transposed,
)
from hesse.operations.record import Structure
from hesse.operations.registry import record_of

# A Hessian is kept by its factors (`LowRank`) where an operation's input has at least so many times
# the entries of its value: below that the full one is less than twice as large as the factors.
_WIDENS = 2


def _derivative(value: Tensor, x: Tensor, again: bool) -> Tensor:
    """Of each entry in the same entry of x; ``again``, to be differentiated once more."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    ones = value.new_ones(()).expand_as(value)
    return torch.autograd.grad(value, x, ones, create_graph=again, materialize_grads=True)[0]


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
    """A node at the values of some samples, with what pulls cotangents and Hessians back
    through it.

    Args:
        node: the operation.
        active: its inputs that derivatives flow through.
        values: every value by name, with a leading sample axis where it is in ``batched``.
        batched: the names of the values that have a sample axis.
        low_rank: whether a Hessian of few entries is to be kept as such on its way down.
        linearized: whether it counts as linear, its own second derivative left out.
    """

    def __init__(
        self,
        node: Node,
        active: tuple[str, ...],
        values: Values,
        batched: set[str],
        low_rank: bool = False,
        linearized: bool = False,
    ) -> None:
        super().__init__(node, active, values, batched)
        self.record = record_of(node)
        shapes = {name: tuple(values[name].shape)[name in batched :] for name in node.inputs}
        self.elementwise = self.record.is_elementwise(node, active, shapes)
        self.linear = self.record.is_linear(node, active)
        varying = [name for name in node.inputs if name in batched and name not in active]
        # One Jacobian serves all samples. Not where a piece is selected: the operation counts as
        # linear, having no second derivative, and yet J differs from sample to sample.
        self.constant = (
            self.linear
            and not varying
            and not self.record.has(Structure.PIECEWISE_LINEAR | Structure.FLAT)
        )
        self.low_rank, self._linearized = low_rank, linearized
        self._slopes: tuple[Tensor, Tensor | None] | None = None
        self._jacobian: tuple[Tensor, ...] | None = None

    @property
    def is_light(self) -> bool:
        """Whether a pull-back costs little to start, so that cotangents need not be joined."""
        return self.elementwise or self.record.pull is not None

    def slopes(self) -> tuple[Tensor, Tensor | None]:
        """f'(x) and f''(x) of an elementwise operation, by differentiating Σ f(x) once and twice;
        ``None`` for what is zero, or left out."""
        if self._slopes is None:
            bends = not (self.linear or self._linearized)
            known = (
                None
                if bends or self.record.function is None
                else (self.record.function.slope_by_value)
            )
            if known is not None and len(self.node.args) == 1 and not self.node.kwargs:
                self._slopes = known(self._values[self.node.name]), None
                return self._slopes
            f = self.function({name: self._values[name] for name in self.node.inputs})
            # Entry by entry, so that one product with ones holds every derivative. Plainly, for
            # `torch.func` takes several times as long to start.
            with torch.enable_grad():
                x = self._values[self.active[0]].detach().requires_grad_()
                slope = _derivative(f(x), x, bends)
                bend = _derivative(slope, x, False) if bends else None
            self._slopes = slope.detach(), bend
        return self._slopes

    def pull(self, cotangents: Tensor) -> tuple[Tensor, ...]:
        """Jᵀ on cotangents: (n, k, *value) -> (n, k, *input), one for each active input."""
        if self.elementwise:
            return (cotangents * self.slopes()[0].unsqueeze(1),)
        if self.record.pull is not None:
            pulled = self.record.pull(self, cotangents)
            if pulled is not None:  # the record knows this form of the call
                return pulled
        if self.constant:
            return self._pull_constant(cotangents)
        return self._pull_by_sample(cotangents)

    def _pull_constant(self, cotangents: Tensor) -> tuple[Tensor, ...]:
        """One Jacobian for all samples: the cotangents of all samples are one batch."""
        given = {name: self._values[name] for name in self.node.inputs if name not in self.active}
        point = [self._values[name][0] for name in self.active]
        _, back, *_ = vjp(self.function(given), *point)
        n, k = cotangents.shape[:2]
        return tuple(
            part.reshape(n, k, *part.shape[1:]) for part in vmap(back)(cotangents.flatten(0, 1))
        )

    def _pull_by_sample(self, cotangents: Tensor) -> tuple[Tensor, ...]:
        return self._by_sample(self._pull_of_sample, cotangents)

    def _pull_of_sample(self, cotangents: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
        given = dict(zip(self.node.inputs, inputs, strict=True))
        _, back, *_ = vjp(self.function(given), *(given[name] for name in self.active))
        return vmap(back)(cotangents)

    def _by_sample(self, of_sample: Callable[..., Any], first: Tensor) -> Any:
        """A function of one sample's part of a tensor and of its inputs, for all samples."""
        names = self.node.inputs
        axes = (0 if name in self._batched else None for name in names)
        return vmap(of_sample, in_dims=(0, *axes))(first, *(self._values[name] for name in names))

    def pull_diagonal(self, cotangents: Diagonal) -> tuple[Cotangents, ...]:
        """Jᵀ on diagonal cotangents; diagonal again where the operation allows."""
        if self.elementwise:
            return (Diagonal(cotangents.values * self.slopes()[0]),)
        if self.record.has(Structure.RELABELS):
            return (
                Diagonal(
                    cotangents.values.reshape(self._values[self.active[0]].shape), cotangents.unit
                ),
            )
        if not self.constant:
            return self.pull(cotangents.dense())
        # The rows of J are what a diagonal picks: no product is needed.
        n = len(cotangents.values)
        if cotangents.unit:
            return tuple(j.expand(n, *j.shape[1:]) for j in self.jacobian())
        rows = cotangents.values.reshape(n, -1)
        return tuple(rows.reshape(n, -1, *(1,) * (j.ndim - 2)) * j for j in self.jacobian())

    def jacobian(self) -> tuple[Tensor, ...]:
        """J of a constant operation, (1, entries, *input), one for each active input."""
        if self._jacobian is None:
            self._jacobian = self.pull(
                Diagonal(torch.ones_like(self._values[self.node.name][:1])).dense()
            )
        return self._jacobian

    def pull_hessian(
        self, hessian: ValueHessian, halves: bool, diagonal_only: bool = False
    ) -> "tuple[tuple[Cotangents, ...], list[list[ValueHessian | None]]]":
        """Jᵀ S J of the value's Hessian S.

        Args:
            hessian: S, (n, entries, *value) or its structure; nothing else lies in its memory, and
                it may be written over.
            halves: whether the cotangents S J, (n, entries, *input), are wanted too.
            diagonal_only: of the block of a single input only the diagonal will be used.

        Returns:
            The halves, one for each active input (empty if not wanted), and the blocks, (n, |input
            i|, *input j) for i <= j. They may share memory.
        """
        single = len(self.active) == 1
        if single and not halves and self.record.has(Structure.RELABELS):
            return (), [[reshaped(hessian, self._values[self.active[0]].shape)]]
        if single and self.elementwise and (not halves or isinstance(hessian, Diagonal)):
            slope = self.slopes()[0]
            if isinstance(hessian, Diagonal):
                half = Diagonal(hessian.values * slope)
                return (half,), [[Diagonal(half.values * slope)]]
            if isinstance(hessian, RankOne):
                return (), [[RankOne(hessian.diagonal * slope.square(), hessian.factor * slope)]]
            if isinstance(hessian, LowRank):
                return (), [[hessian.scaled(slope)]]
            # In place where it can be: memory fresh from the system would take longer to fill than
            # to multiply.
            once = (hessian.mul_ if hessian.is_contiguous() else hessian.mul)(slope.unsqueeze(1))
            return (), [[once.mul_(slope.reshape(len(hessian), -1, *(1,) * (hessian.ndim - 2)))]]
        # Halves S J are rows for a site, and are wanted in full.
        if diagonal_only and self.constant and not halves:
            return (), [[self._pull_diagonal_of_hessian(hessian)]]
        if single and self.constant and not diagonal_only:
            factored = self._pull_low_rank(hessian, halves)
            if factored is not None:
                return factored
        pulled = self._pull_half(hessian)
        shape = self._values[self.node.name].shape[1:]
        blocks: list[list[ValueHessian | None]] = [[None] * len(self.active) for _ in self.active]
        for i, half in enumerate(pulled):
            # S is symmetric: (S J)ᵀ pulled back once more is Jᵀ S J, of which i <= j is enough.
            blocks[i][i:] = self.pull(
                transposed(half if isinstance(half, Tensor) else half.dense(), shape)
            )[i:]
        return pulled if halves else (), blocks

    def _pull_low_rank(
        self, hessian: ValueHessian, halves: bool
    ) -> "tuple[tuple[Cotangents, ...], list[list[ValueHessian | None]]] | None":
        """A Hessian of few entries goes down to many by its factors: Jᵀ (Cᵀ K C + diag r) J =
        (C J)ᵀ K (C J) + Jᵀ diag(r) J. ``None`` where the full one serves as well."""
        x, z = self._values[self.active[0]], self._values[self.node.name]
        if not isinstance(hessian, LowRank):
            if not self.low_rank or x[0].numel() < _WIDENS * z[0].numel():
                return None
            jacobian = self.jacobian()[0]
            cotangents = jacobian.expand(len(z), *jacobian.shape[1:])
            return self._pull_half(hessian) if halves else (), [[LowRank(cotangents, hessian)]]
        cotangents = self.pull(hessian.jacobian)[0]
        if hessian.rest is None and not halves:
            return (), [[LowRank(cotangents, hessian.core)]]
        rows = flat(cotangents)
        n, size = len(rows), rows.shape[2]
        weighed = torch.bmm(hessian.core_matrix(), rows)
        product = torch.bmm(rows.mT, weighed)
        jacobian = self.jacobian()[0].reshape(-1, size)
        if hessian.rest is not None:
            # Jᵀ diag(r) J is no diagonal, so that the form is lost and the Hessian dense from here
            # on. Laid out so that all samples' rows make one matrix.
            rest = hessian.rest.reshape(n, 1, -1) * jacobian.mT.contiguous()  # (n, |x|, |z|)
            product += (rest.reshape(n * size, -1) @ jacobian).view(n, size, size)
        block: list[list[ValueHessian | None]] = [[product.reshape(n, size, *x.shape[1:])]]
        if not halves:
            return (), block
        half = torch.bmm(flat(hessian.jacobian).mT, weighed)
        if hessian.rest is not None:
            half.addcmul_(hessian.rest.reshape(n, -1, 1), jacobian)
        return (half.reshape(n, -1, *x.shape[1:]),), block

    def _pull_diagonal_of_hessian(self, hessian: ValueHessian) -> Diagonal:
        """The diagonal of Jᵀ S J alone, J being the same for all samples: Σ_kl J_k S_kl J_l."""
        x = self._values[self.active[0]]
        jacobian = self.jacobian()[0].reshape(-1, x[0].numel())
        n = len(x)
        if isinstance(hessian, LowRank):
            entries = hessian.diagonal(jacobian).values
        elif isinstance(hessian, Tensor):
            entries = (hessian.reshape(n, -1, len(jacobian)) @ jacobian).mul_(jacobian).sum(1)
        else:
            weights = hessian.values if isinstance(hessian, Diagonal) else hessian.diagonal
            entries = weights.reshape(n, -1) @ jacobian.square()
            if isinstance(hessian, RankOne):
                entries -= (hessian.factor.reshape(n, -1) @ jacobian).square()
        return Diagonal(entries.reshape(x.shape))

    def _pull_half(self, hessian: ValueHessian) -> tuple[Cotangents, ...]:
        """S J, (n, entries, *input), for each active input."""
        if isinstance(hessian, Diagonal):
            return self.pull_diagonal(hessian)
        if isinstance(hessian, RankOne):
            n = len(hessian.factor)
            diagonal, factor = (
                self.pull_diagonal(Diagonal(hessian.diagonal)),
                self.pull(hessian.factor.unsqueeze(1)),
            )
            # (diag d − u uᵀ) J = diag(d) J − u (Jᵀ u)ᵀ: one row is pulled in place of all.
            rows = hessian.factor.reshape(n, -1)
            dense = [part if isinstance(part, Tensor) else part.dense() for part in diagonal]
            return tuple(
                s - rows.reshape(n, -1, *(1,) * (s.ndim - 2)) * f
                for s, f in zip(dense, factor, strict=True)
            )
        return self.pull(as_tensor(hessian))

    def local_hessian(self, delta: Tensor) -> "list[list[ValueHessian | None]]":
        """Σ δ · ∂²value/∂inputs², what the operation's own second derivative adds:
        blocks (n, entries of one active input, *other active input).

        Args:
            delta: (n, *value), the loss's first derivative in the value.
        """
        if self.linear or self._linearized:
            return [[None] * len(self.active) for _ in self.active]
        if self.elementwise:
            bend = self.slopes()[1]
            assert bend is not None
            return [[Diagonal(bend * delta)]]
        if self.record.second is not None:
            written_out = self.record.second(self, delta)
            if written_out is not None:  # the record knows this form of the call
                return written_out
        places = range(len(self.active))
        blocks = self._by_sample(self._second_of_sample, delta)
        sizes = [math.prod(self._values[name].shape[1:]) for name in self.active]
        return [
            [
                blocks[i][j].reshape(len(delta), sizes[i], *self._values[self.active[j]].shape[1:])
                for j in places
            ]
            for i in places
        ]

    def _second_of_sample(self, delta: Tensor, *inputs: Any) -> Any:
        given = dict(zip(self.node.inputs, inputs, strict=True))
        function, places = self.function(given), tuple(range(len(self.active)))
        slope = grad(lambda *a: (function(*a) * delta).sum(), argnums=places)
        return jacrev(slope, argnums=places)(*(given[name] for name in self.active))
