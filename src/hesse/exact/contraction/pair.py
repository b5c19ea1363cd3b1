"""A pair of slots, arranged for contraction, and what an order of contraction is.

Index letters, as in `hesse.exact.contraction.choice`: n sample; g t o i group, position, output,
input of l; h s p j those of m.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hesse.exact.contraction.grid import Grid
from hesse.graph.sites import Slot
from hesse.graph.structures import Curvature, Diagonal, RankOne

# One number written and read again, and starting one call, cost as much time as this many
# operations of a matrix product.
_MOVE = 150.0
_CALL = 3e6


@dataclass(frozen=True)
class Factored:
    """Signals that reach z_l through one value v with fewer entries: columns = coefficients ·
    ∂v/∂z_l.

    Attributes:
        coefficients: (n, h, s, p, v) for S of another site, (n, h, u, c, v) for D; (n, v, v) for a
            site with itself.
        left: Σ_t ∂v/∂z_l[g,t,o] a[g,t,i], (n, v, g, o, i).
        right: likewise with the features of the other slot, for a site with itself.
        local: for a site with itself, what the operations below v add to S: a diagonal (n, g, t,
            o), or dense; ``None`` for none.
    """

    coefficients: Tensor
    left: Tensor
    right: Tensor | None = None
    local: Tensor | Diagonal | None = None


@dataclass(frozen=True)
class Pair:
    """The signals of one chunk at two slots, arranged.

    Attributes:
        left, right: the slots l and m; m is the same site or one that the sweep passed before.
        a: features of l, (n, g, t, i).
        b: features of m, (n, h, s, j).
        signal: S, (n, h, s, p, g, o, t); for a plain site also a structure; ``None`` where zero.
        delta: δ of m, (n, h, s, p).
        transport: D, (n, h, u, c, g, o, t), with m's input as in `hesse.graph.sites.Moves`;
            `Diagonal` where it is one; ``None`` where zero or not needed.
        input_shape: the shape of m's input for one sample.
        same: both slots are the same use of the same parameter.
        positions: how many positions of every sample stand as samples of their own.
    """

    left: Slot
    right: Slot
    a: Tensor
    b: Tensor
    signal: Tensor | Diagonal | RankOne | Factored | None
    delta: Tensor
    transport: Tensor | Diagonal | Factored | None
    input_shape: tuple[int, ...]
    same: bool
    positions: int = 1

    @property
    def sizes(self) -> "Sizes":
        """The lengths behind the index letters."""
        _, g, t, i = self.a.shape
        _, h, s, j = self.b.shape
        x = torch.Size(self.input_shape).numel()
        # A plain slot's features are its input as it stands, so D needs no mapping to features.
        factored = isinstance(self.signal, Factored) or isinstance(self.transport, Factored)
        plain = (
            not factored and g == t == h == s == 1 and self.right.kind in ("dense", "shift", "leaf")
        )
        narrow = next(
            (
                part.left.shape[1]
                for part in (self.signal, self.transport)
                if isinstance(part, Factored)
            ),
            0,
        )
        return Sizes(
            g,
            t,
            self.left.shape[1],
            i,
            h,
            s,
            self.right.shape[1],
            j,
            x,
            *_structure(self),
            plain,
            narrow,
            self.positions,
        )


@dataclass(frozen=True)
class Sizes:
    """The lengths of the axes of a pair, and the structure of its S and D: what the estimates of
    cost are made from."""

    g: int
    t: int
    o: int
    i: int
    h: int
    s: int
    p: int
    j: int
    x: int
    signal: str  # "dense", "diagonal", "rank one", "factored" or "zero"
    transport: str  # "dense", "diagonal", "factored" or "zero"
    same: bool
    plain: bool  # neither slot has groups or positions
    narrow: int  # entries of the value that factored signals pass through; 0: not factored
    positions: int  # how many positions of every sample stand as samples of their own


def _structure(pair: Pair) -> tuple[str, str, bool]:
    kinds: dict[type, str] = {
        Tensor: "dense",
        Diagonal: "diagonal",
        RankOne: "rank one",
        Factored: "factored",
        type(None): "zero",
    }
    return kinds[type(pair.signal)], kinds[type(pair.transport)], pair.same


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
    """

    operations: float
    moved: float
    held: float
    calls: float = 1
    laid: float = 0
    fixed: float = 0

    def times(self, positions: int) -> "Estimate":
        """For so many positions of a sample, each a sample of its own."""
        if positions == 1:
            return self
        return replace(
            self,
            operations=positions * self.operations,
            moved=positions * self.moved,
            held=positions * self.held,
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
        whole: whether it writes one matrix (|l|, |m|), also where the slots have parts.
        complete: whether it leaves the block of a slot with itself whole, and exactly symmetric;
            otherwise what is below the diagonal does not count.
    """

    name: str
    applies: Callable[[Sizes], bool]
    estimate: Callable[[Sizes], Estimate]
    run: Callable[[Pair, Grid], None]
    finish: Callable[[Sizes, Grid], None] = lambda sizes, grid: None
    whole: bool = False
    complete: bool = False


def dense(signal: Curvature | Factored | None) -> Tensor | None:
    """S or D written out."""
    assert not isinstance(signal, Factored)
    return signal if signal is None or isinstance(signal, Tensor) else signal.dense()
