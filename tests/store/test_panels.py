"""Panels of tiny tiles, put together, against the Hessian of each case of the table."""

import pytest
import torch

import hesse
from cases import CASES, Case, cost_of, hessian_of
from hesse.exact.panel import bringing_order, panels_of, tiles_of
from hesse.exact.panel_sums import PanelSums
from hesse.exact.planning import plan_of
from hesse.store.tiling import Tiling

SMALL = [case for case in CASES if cost_of(case).layout.size <= 150]


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


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_panels_make_the_hessian(case: Case) -> None:
    expected = hessian_of(case).dense()
    found = assembled(cost_of(case), 30, 100)
    assert float((found - expected).norm()) <= 1e-11 * float(expected.norm() + 1e-30)
