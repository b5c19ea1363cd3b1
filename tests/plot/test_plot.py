"""Displays compute once, draw where they are told, and keep what they drew."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

import hesse
from hesse.errors import HesseImportError, HesseValueError
from hesse.layout import Layout
from hesse.matrix.block_hessian import BlockHessian
from hesse.plot import HeatMap, Spectrum
from hesse.plot.canvas import signed_ticks
from hesse.plot.labels import labels_that_fit, spaced
from hesse.plot.layers import Layer, Layers
from hesse.spectra.estimate import Estimate

matplotlib = pytest.importorskip("matplotlib")
pyplot = pytest.importorskip("matplotlib.pyplot")


def hessian_of(sizes: dict[str, int], seed: int = 0) -> BlockHessian:
    layout = Layout(tuple(sizes), tuple((size,) for size in sizes.values()))
    half = torch.randn(layout.size, layout.size, generator=torch.Generator().manual_seed(seed))
    return BlockHessian(layout, matrix=half + half.T)


SMALL = {"0.weight": 12, "0.bias": 3, "2.weight": 6, "2.bias": 2}


def test_a_small_hessian_is_drawn_entry_by_entry() -> None:
    hessian = hessian_of(SMALL)
    display = HeatMap.from_hessian(hessian)
    assert display.patch == 1 and display.edges == (0, 12, 15, 21, 23)
    np.testing.assert_array_equal(display.image, hessian.dense().double().numpy())


@pytest.mark.parametrize(
    "sizes", [{"w": 2311, "b": 7, "v": 990, "s": 1}, {f"layer.{i}": 61 for i in range(40)}]
)
def test_a_large_hessian_keeps_its_largest_entries(sizes: dict[str, int]) -> None:
    hessian = hessian_of(sizes)
    display = HeatMap.from_hessian(hessian)
    assert len(display.image) <= 700
    np.testing.assert_array_equal(display.image, display.image.T)
    spans = dict(zip(sizes, pairwise(display.edges), strict=True))
    for a, b in hessian.pairs:
        part, block = display.image[slice(*spans[a]), slice(*spans[b])], hessian.flat(a, b)
        at = int(block.abs().argmax())
        assert part.flat[np.abs(part).argmax()] == float(block.flatten()[at])
        # Every pixel is an entry of its block.
        assert np.isin(part, block.double().numpy()).all()
    assert min(stop - start for start, stop in spans.values()) >= 6


def test_pixels_of_a_matrix_and_of_its_blocks_are_the_same() -> None:
    hessian = hessian_of({"w": 1200, "b": 5, "v": 333})
    blocks = {pair: hessian.flat(*pair) for pair in hessian.pairs}
    from_blocks = HeatMap.from_hessian(BlockHessian(hessian.layout, blocks=blocks))
    np.testing.assert_array_equal(from_blocks.image, HeatMap.from_hessian(hessian).image)


def test_blocks_that_were_not_computed_are_grey_and_said_so() -> None:
    hessian = hessian_of(SMALL)
    diagonal = BlockHessian(
        hessian.layout, blocks={(name, name): hessian.flat(name, name) for name in SMALL}
    )
    display = diagonal.plot()
    assert np.isnan(display.image[:12, 12:]).all() and np.isfinite(display.image[:12, :12]).all()
    assert display.ax is not None and "grey: not computed" in display.ax.get_title()


def test_plot_draws_on_the_axes_given_and_keeps_artists() -> None:
    figure, ax = pyplot.subplots()
    display = hessian_of(SMALL).plot(ax)
    assert display.ax is ax and display.figure is figure
    assert set(display.artists) == {"image", "borders", "labels", "colorbar", "values"}
    assert [label.get_text() for label in display.artists["labels"]] == [*SMALL, *SMALL]
    low, high = display.artists["image"].get_clim()
    assert low == -high == -np.abs(display.image).max()
    image = display.image.copy()
    display.plot()
    assert display.ax is not ax
    np.testing.assert_array_equal(display.image, image)


def test_global_settings_are_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    hessian = hessian_of(SMALL)
    hessian.plot()
    Spectrum.from_hessian(hessian).plot()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "sizes",
    [
        {"w": 1},
        {
            "a_name_that_goes_on_and_on.and_on_and_on.until_it_is_very_long.weight": 40,
            "$x_{": 3,
            "%d <b>\n": 1,
        },
        {
            f"encoder.layers.{i}.linear{j}.{kind}": size
            for i in range(6)
            for j in (1, 2)
            for kind, size in (("w", 30), ("b", 3))
        },
        {f"parameter_{i}": 2 for i in range(150)},
    ],
    ids=["one entry", "strange names", "transformer", "150 parameters"],
)
def test_names_stay_inside_the_figure_and_apart(sizes: dict[str, int]) -> None:
    display = hessian_of(sizes).plot()
    assert display.figure is not None and display.ax is not None
    display.figure.canvas.draw()
    renderer = display.figure.canvas.get_renderer()  # pyright: ignore[reportAttributeAccessIssue]
    names = [
        matplotlib.text.Text.get_window_extent(label, renderer)
        for label in display.artists["labels"]
    ]
    width, height = display.figure.bbox.size
    assert all(
        box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in names
    )
    left, bottom = names[: len(names) // 2], names[len(names) // 2 :]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in pairwise(left))
    assert all(one.x1 <= other.x0 + 1 for one, other in pairwise(bottom))


def test_nothing_but_zeros_can_be_drawn() -> None:
    zero = BlockHessian(Layout(("w",), ((3,),)), matrix=torch.zeros(3, 3))
    for display in (zero.plot(), Spectrum.from_hessian(zero).plot()):
        assert display.figure is not None
        display.figure.canvas.draw()


def test_no_entries_at_all() -> None:
    with pytest.raises(HesseValueError, match="nothing to draw"):
        BlockHessian(Layout(("w",), ((0,),)), matrix=torch.zeros(0, 0)).plot()


def test_spectrum_counts_and_says_the_inertia() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, 1e-20, 3.0, 4.0, 5.0])
    hessian = BlockHessian(Layout(("w",), ((7,),)), matrix=torch.diag(values))
    display = Spectrum.from_hessian(hessian).plot()
    assert tuple(display.counts.values()) == hessian.inertia() == (2, 2, 3)
    texts = [text.get_text() for text in display.artists["legend"].get_texts()]
    assert (
        texts[0] == "2 negative"
        and texts[1].startswith("2 undecided (|λ| ≤ ")
        and texts[2] == "3 positive"
    )
    assert len(display.artists["points"]["positive"].get_offsets()) == 3
    assert display.ax is not None and display.ax.get_yscale() == "symlog"


def test_spread_keeps_order_gap_and_bounds() -> None:
    places = spaced([1.0, 1.1, 1.2, 50.0, 99.0, 99.5], 10.0, 5.0, 95.0)
    assert (np.diff(places) >= 10 - 1e-9).all() and places[0] >= 5 and places[-1] <= 95
    np.testing.assert_allclose(spaced([10.0, 50.0], 5.0, 0.0, 100.0), [10.0, 50.0])


def test_where_layers_are_too_many_the_largest_are_named() -> None:
    names, edges = (
        [f"layer{i}.{kind}" for i in range(3) for kind in "wb"],
        [0, 8, 10, 50, 51, 60, 61],
    )
    assert labels_that_fit(names, edges, 10.0) == [
        (name, (edges[i] + edges[i + 1]) / 2) for i, name in enumerate(names)
    ]
    assert labels_that_fit(names, edges, 20.0) == [
        ("layer0", 5.0),
        ("layer1", 30.5),
        ("layer2", 56.0),
    ]
    assert labels_that_fit(names, edges, 40.0) == [("layer1", 30.5)]
    # Of equals, some from everywhere.
    assert labels_that_fit([f"p{i}" for i in range(9)], range(0, 19, 2), 6.0) == [
        ("p0", 1.0),
        ("p3", 7.0),
        ("p6", 13.0),
    ]


@pytest.mark.parametrize(
    ("threshold", "largest"), [(1e-13, 5.0), (0.3, 0.5), (1.0, 1.0), (0.0, 0.0), (1e-3, 1e3)]
)
def test_signed_ticks_are_few_and_symmetric(threshold: float, largest: float) -> None:
    ticks = signed_ticks(threshold, largest)
    assert ticks == sorted(ticks) == [-tick for tick in reversed(ticks)]
    assert len(ticks) <= 13 and 0.0 in ticks and max(ticks) <= largest


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hessian = hessian_of(SMALL)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(HesseImportError, match=r"pip install 'hesse\[plot\]'"):
        hessian.plot()
    with pytest.raises(HesseImportError, match=r"pip install 'hesse\[plot\]'"):
        Spectrum.from_hessian(hessian).plot()


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = (
        "import sys, hesse.plot, hesse.matrix.block_hessian;"
        " sys.exit(not {'matplotlib', 'scipy', 'zarr'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_ticks_of_many_layers_stand_apart() -> None:
    rows = tuple(
        Layer(f"layers.{k}", 10, Estimate((-1) ** k * 10.0**-k), Estimate(0.3 * 10.0**-k))
        for k in range(30)
    )
    shown = Layers(Layer("(whole)", 300, Estimate(1.0), Estimate(1.0)), rows).plot()
    assert shown.ax is not None and shown.figure is not None
    shown.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in shown.ax.get_xticklabels()]
    boxes = [box for box in boxes if box.width]
    assert 3 <= len(boxes) <= 7
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_a_density_does_not_lie_along_its_frame() -> None:
    shown = hesse.density(torch.diag(torch.tensor([0.0, 0.1, 50.0, 100.0]))).plot()
    assert shown.ax is not None
    drawn, floor = shown.artists["curve"].get_ydata(), shown.ax.get_ylim()[0]
    assert (drawn < floor).any() and not np.isclose(drawn, floor).any()
