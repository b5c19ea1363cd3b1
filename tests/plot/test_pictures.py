"""Norms and spectra by layer, eigenvectors as images, an interactive landscape; and what all
pictures take: Matplotlib's keywords, and any background."""

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hesse
from browsing import PICTURES
from hesse.errors import HesseImportError, HesseKeyError, HesseTypeError, HesseValueError
from hesse.plot.layers import Layer
from hesse.spectra.estimate import Estimate

matplotlib = pytest.importorskip("matplotlib")
pyplot = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def cost() -> hesse.Cost:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(16, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    X, y = torch.randn(9, 16).double(), torch.randint(2, (9,))
    return hesse.Cost(net.double(), "cross_entropy", (X, y))


@pytest.fixture(scope="module")
def H(cost: hesse.Cost) -> hesse.BlockHessian:
    return hesse.hessian(cost)


@pytest.fixture(scope="module")
def pictures(cost: hesse.Cost, H: hesse.BlockHessian) -> dict[str, Any]:
    """One of each, small."""
    q = hesse.quadratic(cost)
    return {
        "heat map": hesse.HeatMap.from_hessian(H),
        "norms": hesse.NormMap.from_hessian(H),
        "spectrum": hesse.Spectrum.from_hessian(H),
        "spectra": hesse.LayerSpectra.from_hessian(H),
        "eigenvectors": hesse.Eigenvectors.from_eigenpairs(hesse.eigenpairs(H, k=2)),
        "layers": hesse.layers(H),
        "density": hesse.density(H),
        "slice": hesse.Slice.from_model(q, points=5),
        "plane": hesse.Plane.from_model(q, points=5),
        "errors": hesse.ErrorCurve.from_trust(q.trust()),
        "distances": hesse.kfac(cost).compare("gauss_newton"),
    }


NAMES = [
    *("heat map", "norms", "spectrum", "spectra", "eigenvectors", "layers"),
    *("density", "slice", "plane", "errors", "distances"),
]


def test_norms_by_layer_are_those_of_the_dense_blocks(H: hesse.BlockHessian) -> None:
    dense, ends = H.dense(), {"0": slice(0, 51), "2": slice(51, 59)}
    picture = H.plot(by="layer")
    assert isinstance(picture, hesse.NormMap) and picture.names == ("0", "2")
    for i, rows in enumerate(ends.values()):
        for j, columns in enumerate(ends.values()):
            assert picture.norms[i, j] == pytest.approx(float(dense[rows, columns].norm()))
    assert len(picture.artists["values"]) == 4 and "4.7" not in picture.names
    by_parameter = hesse.NormMap.from_hessian(H, "parameter")
    assert by_parameter.norms[0, 3] == pytest.approx(H.norms["0.weight", "2.bias"])


def test_a_block_that_was_not_computed_leaves_a_gap(cost: hesse.Cost) -> None:
    some = hesse.hessian(cost, block_diagonal=True)
    picture = hesse.NormMap.from_hessian(some).plot()
    assert np.isnan(picture.norms).all()  # of a layer the block of its weight and bias is missing
    assert picture.ax is not None and "grey: not computed" in picture.ax.get_title()
    with pytest.raises(HesseValueError, match="the layer '0' are not all there"):
        hesse.LayerSpectra.from_hessian(some)


def test_spectra_of_layers_are_those_of_their_blocks(H: hesse.BlockHessian) -> None:
    dense, found = H.dense(), hesse.LayerSpectra.from_hessian(H).spectra
    for name, part in {"0": slice(0, 51), "2": slice(51, 59)}.items():
        expected = torch.linalg.eigvalsh(dense[part, part]).numpy()
        np.testing.assert_allclose(found[name].values, expected, atol=1e-12)
        assert sum(found[name].counts.values()) == len(expected)


def test_images_are_the_parts_of_the_eigenvectors(H: hesse.BlockHessian) -> None:
    pairs = hesse.eigenpairs(H, k=3)
    picture = pairs.plot()
    assert picture.images.shape == (3, 3, 4, 4) and picture.units == (0, 1, 2)
    for k in range(3):
        part = pairs.vector(k)["0.weight"].numpy()
        np.testing.assert_array_equal(picture.images[k].reshape(3, 16), part)
        assert picture.shares[k] == pytest.approx((part**2).sum())
    wide = pairs.plot(name="0.weight", image=(2, 8))
    np.testing.assert_array_equal(wide.images.ravel(), picture.images.ravel())


def test_kernels_are_images_of_their_own() -> None:
    layout = hesse.Layout(("conv.weight", "bias"), ((12, 2, 3, 3), (12,)))
    matrix = torch.randn(layout.size, layout.size, dtype=torch.float64)
    pairs = hesse.eigenpairs(hesse.BlockHessian(layout, matrix=matrix + matrix.T), k=2)
    picture = hesse.Eigenvectors.from_eigenpairs(pairs)
    assert picture.images.shape == (2, 10, 3, 3) and len(picture.units) == 10
    kernel = pairs.vector(1)["conv.weight"][picture.units[4]].sum(0).numpy()
    np.testing.assert_allclose(picture.images[1, 4], kernel)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"name": "2.weight"}, HesseValueError, r"image: '2.weight' has 3 inputs, .* give image="),
        ({"image": (3, 3)}, HesseValueError, "has 16 inputs, and 3 x 3 are 9"),
        ({"name": "0.bias"}, HesseKeyError, "name: no parameter named '0.bias' .*'0.weight'"),
    ],
)
def test_what_is_no_image_is_refused(
    H: hesse.BlockHessian, arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        hesse.eigenpairs(H, k=1).plot(**arguments)


def luminance(colour: Any) -> float:
    red, green, blue, _ = matplotlib.colors.to_rgba(colour)
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: Any, b: Any) -> float:
    """As the Web Content Accessibility Guidelines count it."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("name", NAMES)
def test_any_background(name: str, style: str, pictures: dict[str, Any]) -> None:
    with pyplot.style.context(style):
        before = dict(matplotlib.rcParams)
        picture = pictures[name].plot()
        assert dict(matplotlib.rcParams) == before
        background = matplotlib.rcParams["figure.facecolor"]
    in_cells = set(picture.artists.get("values", ()))
    for text in picture.figure.findobj(matplotlib.text.Text):
        if text.get_text() and text not in in_cells:
            assert contrast(text.get_color(), background) > 4.5, text
    for line in picture.ax.get_lines():
        # Borders lie over an image, and a faint line at zero is meant to be.
        if name != "heat map" and (line.get_alpha() or 1) == 1:
            assert contrast(line.get_color(), background) >= 2, line


@pytest.mark.parametrize("name", ["heat map", "norms"])
def test_numbers_in_cells_stand_out(name: str) -> None:
    matrix = torch.diag(torch.tensor([1e-3, -2.0, 30.0]).double())
    H = hesse.BlockHessian(hesse.Layout(("a", "b", "c"), ((1,),) * 3), matrix=matrix)
    picture = H.plot() if name == "heat map" else H.plot(by="parameter")
    image = picture.artists["image"]
    assert len(picture.artists["values"]) == 9
    for text in picture.artists["values"]:
        value = float(text.get_text().replace("−", "-"))
        assert contrast(text.get_color(), image.to_rgba(value or 1e-9)) > 3


STYLES = {
    "heat map": {"cmap": "PuOr"},
    "norms": {"cmap": "cividis"},
    "eigenvectors": {"cmap": "PuOr"},
    "plane": {"cmap": "Greys", "alpha": 1.0},
    "slice": {"lw": 5, "color": "#123456"},
    "density": {"linewidth": 5},
    "errors": {"markersize": 9, "c": "#123456"},
    "spectrum": {"s": 50},
    "spectra": {"marker": "x", "linewidths": 1},
    "layers": {"hatch": "//"},
    "distances": {"edgecolor": "black"},
}


@pytest.mark.parametrize("name", NAMES)
def test_keywords_pass_through_and_unknown_ones_are_refused(
    name: str, pictures: dict[str, Any]
) -> None:
    picture = pictures[name].plot(**STYLES[name])
    if "cmap" in STYLES[name]:
        drawn = picture.artists["image" if "image" in picture.artists else "filled"]
        assert drawn.get_cmap().name == STYLES[name]["cmap"]
    if name == "slice":
        line = picture.artists["true"]
        assert (line.get_linewidth(), line.get_color()) == (5, "#123456")
    with pytest.raises(HesseTypeError, match="plot: 'colours' is no keyword of Matplotlib's"):
        picture.plot(colours="red")
    with pytest.raises(HesseValueError, match="plot: Matplotlib refuses 'alpha'"):
        picture.plot(alpha="much")


def test_a_landscape_is_a_page_of_its_own(pictures: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    plane, path = pictures["plane"], tmp_path / "plane.html"
    figure = plane.interactive(path)
    true, model, *paths = figure.data
    np.testing.assert_array_equal(true.z, plane.true)
    assert [trace.name for trace in paths] == [*plane.paths, "θ"]
    # On the surface, at θ: the cost there.
    assert paths[-1].z[0] == pytest.approx(plane.true[2, 2])
    inside = np.isfinite(np.array(model.z, dtype=float))
    np.testing.assert_array_equal(np.array(model.z)[inside], plane.model[inside])
    page = path.read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page and "<script src=" not in page
    with pytest.raises(HesseValueError, match=r"path: expected a file that ends in \.html"):
        plane.interactive(tmp_path / "plane.png")


def test_without_plotly_the_error_says_how_to_get_it(
    pictures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(HesseImportError, match=r"pip install 'hesse\[interactive\]'"):
        pictures["plane"].interactive()


LAYERS = {
    9: {"0": ((2, 2), (2,)), "2": ((1, 2), (1,))},
    2410: {"0": ((32, 64), (32,)), "2": ((10, 32), (10,))},
    20_000: {f"encoder.layers.{k}.linear": ((40, 49), (40,)) for k in range(10)},
}


def of_size(P: int) -> dict[str, Any]:
    """A picture of each kind that grows with the Hessian, of numbers that cost nothing."""
    random = np.random.default_rng(0)
    shapes = {
        f"{layer}.{part}": shape
        for layer, (weight, bias) in LAYERS[P].items()
        for part, shape in (("weight", weight), ("bias", bias))
    }
    layout = hesse.Layout(tuple(shapes), tuple(shapes.values()))
    blocks = {
        (name, name): torch.tensor([[(-1.0) ** k * 10**-k]]).expand(size, size)
        for k, (name, size) in enumerate(layout.sizes.items())
    }
    H = hesse.BlockHessian(layout, blocks=blocks)
    values = np.sort(random.standard_normal(P) * 10 ** random.uniform(-9, 2, P))
    sizes = [int(np.prod(weight)) + bias[0] for weight, bias in LAYERS[P].values()]
    parts = dict(
        zip(LAYERS[P], np.split(random.permutation(values), np.cumsum(sizes)), strict=False)
    )
    units, inputs = LAYERS[P][next(iter(LAYERS[P]))][0]
    side = int(inputs**0.5)
    images = random.standard_normal((3, min(units, 10), side, inputs // side))
    rows = [
        Layer(name, size, Estimate(size / 3, size / 30), Estimate(1e3 / size))
        for name, size in zip(LAYERS[P], sizes, strict=True)
    ]
    return {
        "heat map": hesse.HeatMap.from_hessian(H),
        "norms": hesse.NormMap(random.uniform(0, 1, (len(shapes),) * 2), layout.names, "parameter"),
        "spectrum": hesse.Spectrum(values, 1e-6),
        "spectra": hesse.LayerSpectra(
            {name: hesse.Spectrum(np.sort(part), 1e-6) for name, part in parts.items()}
        ),
        "eigenvectors": hesse.Eigenvectors(
            images, values[-3:], tuple(range(images.shape[1])), np.ones(3) / 3, layout.names[0]
        ),
        "layers": hesse.Layers(rows[0], tuple(rows)),
    }


def hidden(picture: Any) -> list[str]:
    """The words that leave the picture, and the labels of an axis that lie over the one before."""
    figure = picture.figure
    figure.canvas.draw()
    ticks = {}
    for axis in figure.findobj(matplotlib.axis.Axis):
        low, high = sorted(axis.get_view_interval())
        every = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for tick in every:
            ticks |= dict.fromkeys((tick.label1, tick.label2), low <= tick.get_loc() <= high)
    box = figure.bbox.padded(1)
    places = {
        text: text.get_window_extent()
        for text in figure.findobj(matplotlib.text.Text)
        if text.get_text().strip() and text.get_visible() and ticks.get(text, True)
    }
    found = [
        text.get_text()
        for text, place in places.items()
        if not (box.contains(place.x0, place.y0) and box.contains(place.x1, place.y1))
    ]
    for axis in figure.findobj(matplotlib.axis.Axis):
        shown = [label for label in axis.get_ticklabels() if label in places]
        for a, b in itertools.pairwise(shown):
            if places[a].padded(-1).overlaps(places[b].padded(-1)):
                found.append(f"{b.get_text()} over {a.get_text()}")
    return found


@pytest.mark.some(of=4)
@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("P", LAYERS)
@pytest.mark.parametrize("name", NAMES[:6])
def test_a_picture_of_any_size_is_legible(name: str, P: int, style: str) -> None:
    with pyplot.style.context(style):
        picture = of_size(P)[name].plot()
        background = matplotlib.rcParams["figure.facecolor"]
        if PICTURES:
            picture.figure.savefig(Path(PICTURES) / f"{name}-{P}-{style}.png")
        assert hidden(picture) == []
    cells = set(picture.artists.get("values", ()))
    for text in picture.figure.findobj(matplotlib.text.Text):
        if text.get_text().strip() and text not in cells:
            assert contrast(text.get_color(), background) > 4.5, text
