"""Panels of tiny tiles, put together, against the Hessian of each case of the table."""

import pytest
import torch

import hesse
from cases import CASES, Case, cost_of, hessian_of
from hesse.exact.panel import bringing_order, panels_of, tiles_of
from hesse.exact.panel_sums import PanelSums
from hesse.exact.planning import plan_of
from hesse.store.tiling import Tiling

# Some of every kind: structures of S and D, ways in which a parameter enters, and what goes by
# columns. With all that are small, some 90, it takes half a minute.
KINDS = (
    "dense tanh", "cross entropy", "bce with logits", "autoencoder with one matrix", "lstm",
    "overlapping slices of one matrix", "matrix from the left", "transposed convolution",
    "bilinear", "outputs without an axis", "parametric relu", "loss that couples its samples",
    "ragged batches, weights and ignored", "penalty", "penalty function", "rosenbrock",
    "conv1d dilation groups", "layer norm", "group norm", "batch norm train", "embedding",
    "tied embedding", "tied layers", "module called twice", "unused parameters", "residual",
    "temperature times", "cannot be exported", "dense on tokens", "four layers, mixed",
)  # fmt: skip


def assembled(cost: hesse.Cost, entries: int, most: int) -> torch.Tensor:
    """The Hessian of its panels, tile by tile; what no tile has stays nan."""
    planned = plan_of(cost, None, False, None)
    names = cost.layout.names
    pairs = tuple((a, b) for place, a in enumerate(names) for b in names[place:])
    tiling = Tiling.of(cost.layout, pairs, entries)
    H = cost.theta.new_full((cost.layout.size, cost.layout.size), torch.nan)
    sums = PanelSums(cost, planned, 10**8)
    panels = panels_of(tiling, bringing_order(cost, planned), most)
    for panel in panels:
        for strip, made in zip(panel, sums.of(panel), strict=True):
            for tile, other, rows, columns in tiles_of(tiling, strip):
                part = made[other][rows, columns]
                part = part if tile.pair == (strip.name, other) else part.mT
                a, b = (cost.layout.offsets[name] for name in tile.pair)
                place = (
                    slice(a + tile.rows.start, a + tile.rows.stop),
                    slice(b + tile.columns.start, b + tile.columns.stop),
                )
                assert bool(H[place].isnan().all())
                H[place] = part
    return torch.where(H.isnan(), H.mT, H)


@pytest.mark.some(of=2)
@pytest.mark.parametrize("case", [case for case in CASES if case.name in KINDS], ids=str)
def test_panels_make_the_hessian(case: Case) -> None:
    expected = hessian_of(case).dense()
    size = cost_of(case).layout.size
    found = assembled(cost_of(case), max(9, size**2 // 16), max(25, size**2 // 5))
    assert float((found - expected).norm()) <= 1e-11 * float(expected.norm() + 1e-30)
