"""How far an approximation is from the exact blocks that it stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from hesse.cost import Cost
from hesse.curvatures.curvature import curvature_named
from hesse.display import Display, Table, counted
from hesse.display.text import table_lines
from hesse.errors import HesseTypeError, HesseValueError
from hesse.exact.hessian import hessian
from hesse.kronecker.operator import BlockwiseOperator, require_damping
from hesse.plot.canvas import BARS
from hesse.plot.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of a block's mean eigenvalue: what is added before it is divided by.
_DAMPING = 1e-3


@final
@dataclass(frozen=True)
class BlockDistance:
    """One block K beside the exact block C of the same parameters.

    Attributes:
        names: the parameters.
        size: how many entries they have.
        curvature: what C is of.
        relative: ‖K − C‖ / ‖C‖, in Frobenius norm.
        cosine: ⟨K, C⟩ / (‖K‖ ‖C‖): how alike they are up to a factor.
        ratio: the largest eigenvalue of (K + δ I)⁻¹ C: so many times K takes a direction's
            curvature for too small. Where it is at most 1, a step by K + δ I never overshoots.
    """

    names: tuple[str, ...]
    size: int
    curvature: str
    relative: float
    cosine: float
    ratio: float

    @property
    def label(self) -> str:
        """The parameters as one text, what they have in common written once."""
        layer = {name.rpartition(".")[0] for name in self.names}
        if len(self.names) == 1 or len(layer) > 1 or layer == {""}:
            return ", ".join(self.names)
        return f"{layer.pop()}.({', '.join(name.rpartition('.')[2] for name in self.names)})"


@final
@dataclass(eq=False, repr=False)
class Comparison(Picture):
    """The distances of all blocks, a table that prints; made by `KFAC.compare`.

    Attributes:
        rows: one for each block and curvature.
    """

    _kind = BARS

    rows: tuple[BlockDistance, ...]

    def __str__(self) -> str:
        return "\n".join(table_lines(self._table))

    def _display(self) -> Display:
        blocks = len({row.names for row in self.rows})
        summary = f"{counted(blocks, 'block')} beside the exact ones"
        return Display("Comparison", summary, table=self._table, next=("c.rows", "c.plot()"))

    @property
    def _table(self) -> Table:
        head = ("block", "entries", "exact", "|K - C| / |C|", "cosine", "largest of C / K")
        rows = (
            (row.label, f"{row.size}", row.curvature, f"{row.relative:.3g}", f"{row.cosine:.4f}",
             f"{row.ratio:.3g}")
            for row in self.rows
        )  # fmt: skip
        return Table(head, tuple(rows), (0, 2))

    @property
    def _size(self) -> tuple[float, float]:
        return 7.2, 1.6 + 0.3 * max(len(self.rows), 1)

    def _draw(self, ax: "Axes", style: dict[str, Any]) -> dict[str, Any]:
        from hesse.plot.distances import draw_distances

        return draw_distances(self.rows, ax, style)


def compared(
    approximation: BlockwiseOperator, cost: Cost, curvatures: Any, damping: Any, names: Any
) -> Comparison:
    """The distances of an approximation's blocks from a cost's exact ones; the penalty, which both
    have alike, is left out.

    Raises:
        HesseTypeError, HesseValueError: no curvatures, or a damping that is no number >= 0.
        HesseKeyError: no parameter has a name.
        HesseMemoryError: the exact blocks do not fit.
    """
    chosen = [curvatures] if isinstance(curvatures, str) else curvatures
    if not isinstance(chosen, list | tuple):
        raise HesseTypeError(
            f"curvatures: expected a name or a list of them, got {type(curvatures).__name__}"
        )
    if not chosen:
        raise HesseValueError("curvatures: expected at least one, such as 'gauss_newton'")
    kinds = [curvature_named(one) for one in chosen]
    given = None if damping is None else require_damping(damping)
    wanted = set(cost.layout.names if names is None else cost.layout.matching(names).names)
    groups = [group for group in _groups(approximation) if wanted.intersection(group)]
    if not groups:
        raise HesseValueError("names: expected at least one name or pattern")
    pairs = [(a, b) for group in groups for k, a in enumerate(group) for b in group[k:]]
    rows = []
    for kind in kinds:
        exact = hessian(cost.without_penalty(), curvature=kind, pairs=pairs)
        for group in groups:
            C = torch.cat([torch.cat([exact.flat(a, b) for b in group], 1) for a in group])
            K = _dense(approximation, group)
            rows.append(_distance(group, kind.name, K.double(), C.double(), given))
    # A block's curvatures beneath each other.
    order = {group: place for place, group in enumerate(groups)}
    return Comparison(tuple(sorted(rows, key=lambda row: order[row.names])))


def _groups(approximation: BlockwiseOperator) -> list[tuple[str, ...]]:
    """Parameters that have a block in common, in the order of the layout."""
    groups: list[set[str]] = []
    for block in approximation.blocks:
        joined = set(block.names).union(*(g for g in groups if g.intersection(block.names)))
        groups = [*(g for g in groups if not g.intersection(block.names)), joined]
    names = approximation.layout.names
    ordered = [tuple(name for name in names if name in group) for group in groups]
    return sorted(ordered, key=lambda group: names.index(group[0]))


def _dense(approximation: BlockwiseOperator, group: Sequence[str]) -> Tensor:
    whole = torch.cat([torch.cat([approximation.block(a, b) for b in group], 1) for a in group])
    whole.diagonal().sub_(approximation.shift)
    return whole


def _distance(
    names: tuple[str, ...], curvature: str, K: Tensor, C: Tensor, damping: float | None
) -> BlockDistance:
    size, norms = len(K), (float(K.norm()), float(C.norm()))
    if damping is None:
        damping = _DAMPING * max(float(K.trace()), 0.0) / size
    difference = float((K - C).norm())
    relative = difference / norms[1] if norms[1] else (0.0 if not difference else float("inf"))
    cosine = float((K * C).sum()) / (norms[0] * norms[1]) if all(norms) else float("nan")
    return BlockDistance(names, size, curvature, relative, cosine, _largest(K, C, damping))


def _largest(K: Tensor, C: Tensor, damping: float) -> float:
    """The largest eigenvalue of (K + δ I)⁻¹ C."""
    values, vectors = torch.linalg.eigh(K)
    values = values.clamp(min=0) + damping
    if not bool((values > 0).all()):
        return float("nan") if not bool(C.any()) else float("inf")
    half = vectors / values.sqrt()
    return float(torch.linalg.eigvalsh(half.mT @ C @ half)[-1])
