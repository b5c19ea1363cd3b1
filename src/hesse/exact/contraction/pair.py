"""A pair of parameter uses, arranged for contraction, and what an order of contraction is.

Index letters, as in `hesse.exact.contraction.choice`: n sample; g t o i group, position, output,
input of l; h s p j those of m.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

import torch
from torch import Tensor

from hesse.exact.contraction.grid import Grid
from hesse.graph.sites import ParameterUse
from hesse.graph.structures import Diagonal, RankOne
from hesse.process.price import Price, Room

# One number written and read again, and starting one call, cost as much time as this many
# operations of a matrix product. Only their ratios matter: they choose between orders.
_MOVE = 150.0
_CALL = 3e6


@dataclass(frozen=True)
class ThroughBottleneck:
    """S or D where they reach z_l through one value v with fewer entries: coefficients · ∂v/∂z_l.

    Attributes:
        coefficients: (n, h, s, p, v) for S of another site, (n, h, u, c, v) for D; (n, v, v) for a
            site with itself.
        left: Σ_t ∂v/∂z_l[g,t,o] a[g,t,i], (n, v, g, o, i).
        right: likewise with the features of the other use, for a site with itself.
        local: for a site with itself, what the operations below v add to S: a diagonal (n, g, t,
            o), or dense; ``None`` for none.
    """

    coefficients: Tensor
    left: Tensor
    right: Tensor | None = None
    local: Tensor | Diagonal | None = None


PairHessian = Tensor | Diagonal | RankOne | ThroughBottleneck
PairJacobian = Tensor | Diagonal | ThroughBottleneck


class Form(Enum):
    """What S or D of a pair looks like: what an order asks before it applies."""

    DENSE = auto()
    DIAGONAL = auto()
    RANK_ONE = auto()
    THROUGH_BOTTLENECK = auto()
    ZERO = auto()


_FORMS: dict[type, Form] = {
    Tensor: Form.DENSE,
    Diagonal: Form.DIAGONAL,
    RankOne: Form.RANK_ONE,
    ThroughBottleneck: Form.THROUGH_BOTTLENECK,
    type(None): Form.ZERO,
}
# The kinds of a use whose features are its input as it stands, or none.
_UNCHANGED = ("dense", "shift", "leaf")
# Those of which each entry of a vector is or may be a group.
_BY_ENTRY = (*_UNCHANGED, "scale")


@dataclass(frozen=True)
class Pair:
    """What is contracted for two parameter uses l and m, for one chunk of samples, arranged.

    Attributes:
        left, right: the uses l and m; m is at the same site or at one that the sweep visited
            before.
        a: features of l, (n, g, t, i).
        b: features of m, (n, h, s, j).
        hessian: S = ∂²ℓ/∂z_m∂z_l, (n, h, s, p, g, o, t); between vectors also a structure; ``None``
            where zero.
        delta: δ of m, (n, h, s, p).
        jacobian: D = ∂x_m/∂z_l, (n, h, u, c, g, o, t), with m's input as in
            `hesse.graph.sites.Gather`; `Diagonal` where it is one; ``None`` where zero or not
            needed.
        input_shape: the shape of m's input for one sample.
        same: both are the same use of the same parameter.
        positions: how many positions of every sample stand as samples of their own.
        alike: both are some outputs of one use, with the same features.
    """

    left: ParameterUse
    right: ParameterUse
    a: Tensor
    b: Tensor
    hessian: PairHessian | None
    delta: Tensor
    jacobian: PairJacobian | None
    input_shape: tuple[int, ...]
    same: bool
    positions: int = 1
    alike: bool = False

    @property
    def sizes(self) -> "Sizes":
        """The lengths behind the index letters."""
        _, g, t, i = self.a.shape
        _, h, s, j = self.b.shape
        through = [
            part for part in (self.hessian, self.jacobian) if isinstance(part, ThroughBottleneck)
        ]
        # Other features than the input itself would have to be applied to D.
        vector = not through and g == t == h == s == 1 and self.right.kind in _UNCHANGED
        (_, o, _), (_, p, _) = self.left.shape, self.right.shape
        by_entry = (
            not through
            and t == s == 1 < max(g, h)
            and min(g, o) == min(h, p) == 1
            and self.right.kind in _BY_ENTRY
        )
        return Sizes(
            g,
            t,
            o,
            i,
            h,
            s,
            p,
            j,
            torch.Size(self.input_shape).numel(),
            _FORMS[type(self.hessian)],
            _FORMS[type(self.jacobian)],
            self.same,
            vector,
            by_entry,
            through[0].left.shape[1] if through else 0,
            self.positions,
            self.alike,
        )


@dataclass(frozen=True)
class Sizes:
    """The lengths of the axes of a pair, and the form of its S and D: what the estimates of cost
    are made from.

    Attributes:
        g, t, o, i: group, position, output and input of l.
        h, s, p, j: those of m.
        x: the entries of m's input.
        hessian, jacobian: the forms of S and D.
        same: both are the same use of the same parameter.
        vector: neither use has groups or positions.
        by_entry: neither use has positions, and one or both have each entry for a group.
        bottleneck: entries of the value that S and D pass through; 0 where they pass through none.
        positions: how many positions of every sample stand as samples of their own.
        alike: both are some outputs of one use, with the same features.
    """

    g: int
    t: int
    o: int
    i: int
    h: int
    s: int
    p: int
    j: int
    x: int
    hessian: Form
    jacobian: Form
    same: bool
    vector: bool
    by_entry: bool
    bottleneck: int
    positions: int
    alike: bool = False


@dataclass(frozen=True)
class Estimate:
    """What an order costs: the first three for each sample, the others once for a chunk.

    Attributes:
        operations: floating point operations, two for a multiply-add.
        moved: numbers written and read again in intermediates.
        held: numbers of intermediates alive at once.
        calls: how many matrix products or passes are started.
        laid: numbers of the result that are written and read again on their way into the block.
        fixed: numbers held in any case, however few the samples.
        parts: numbers for each sample that are made for some samples at a time.
        most: at most so many of these at once.
    """

    operations: float
    moved: float
    held: float
    calls: float = 1
    laid: float = 0
    fixed: float = 0
    parts: float = 0
    most: float = 0

    def times(self, positions: int) -> "Estimate":
        """For so many positions of a sample, each a sample of its own."""
        if positions == 1:
            return self
        return replace(
            self,
            operations=positions * self.operations,
            moved=positions * self.moved,
            held=positions * self.held,
            parts=positions * self.parts,
        )

    @property
    def room(self) -> Room:
        """Numbers alive at once, by the number of samples."""
        return Room(self.fixed, self.held, self.parts, self.most)

    def price(self, samples: int, chunks: int, itemsize: int) -> Price:
        """For so many samples in so many chunks."""
        return Price(
            samples * self.operations,
            2 * itemsize * (samples * self.moved + chunks * self.laid),
            chunks * self.calls,
        )

    def time(self, samples: int) -> float:
        """For a chunk of samples, in units of one operation of a matrix product."""
        return (
            samples * (self.operations + _MOVE * self.moved)
            + _CALL * self.calls
            + _MOVE * self.laid
        )


@dataclass(frozen=True)
class Order:
    """One way to contract a pair.

    Attributes:
        name: what a plan calls it.
        applies: whether it can contract a pair of these sizes.
        estimate: what it costs.
        run: adds the chunk's contribution to the blocks.
        finish: completes the blocks after the last chunk.
        joined: whether it writes one matrix (|l|, |m|), also where a use joins several.
        complete: whether it leaves the block of a use with itself in both halves, and exactly
            symmetric; otherwise what is below the diagonal does not count.
    """

    name: str
    applies: Callable[[Sizes], bool]
    estimate: Callable[[Sizes], Estimate]
    run: Callable[[Pair, Grid], None]
    finish: Callable[[Sizes, Grid], None] = lambda sizes, grid: None
    joined: bool = False
    complete: bool = False


def dense(part: PairHessian | PairJacobian | None) -> Tensor | None:
    """S or D written out; not for what passes through a bottleneck, which no such order takes."""
    assert not isinstance(part, ThroughBottleneck)
    return part if part is None or isinstance(part, Tensor) else part.dense()
