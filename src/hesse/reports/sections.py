"""The sections of a report, a function each: from what was found to parts of a page."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hesse.data.batch import tensors_in
from hesse.derivation.show.html import fragment
from hesse.display import Fact, Table, facts
from hesse.errors import HesseError
from hesse.evaluation import gradient
from hesse.matrix.block_hessian import BlockHessian
from hesse.plot import Eigenvectors, LayerSpectra, NormMap, Spectrum
from hesse.plot.figures import png
from hesse.plot.picture import Picture
from hesse.reports.findings import Findings
from hesse.reports.parts import Facts, Folded, Image, Part, Rows, Words, shown
from hesse.spectra.density import density
from hesse.spectra.trace import trace


def cost(found: Findings) -> list[Part]:
    """What is asked about, and where it stands."""
    slope = max(float(part.abs().max()) for part in gradient(found.cost).values())
    parts = shown(found.cost._display(), "The parameters, in the order of H")
    value = (Fact("J", f"{found.model.value:.9g}"), Fact("largest slope", f"{slope:.3g}"))
    return [*_with_facts(parts, value)]


def plan(found: Findings) -> list[Part]:
    """How H is computed."""
    parts = shown(found.plan._display(), "How each block of H is computed")
    return [*parts, Folded("The plan in full", str(found.plan))]


def hessian(found: Findings) -> list[Part]:
    """The blocks of H by their norms, and what H was held against."""
    H = found.H
    if not isinstance(H, BlockHessian):
        why = found.products_only or str(found.model.plan)
        return [
            Words(f"{why}. What follows is found by products with it, and no block is shown."),
            Words(f"Certificate of the products: {H.certificate or 'none'}"),
        ]
    largest = max(H.norms, key=lambda pair: H.norms[pair])
    between = " and ".join(dict.fromkeys(largest))
    return [
        *shown(H._display(), "Frobenius norms of the blocks"),
        _image(
            NormMap.from_hessian(H),
            "Map of the Frobenius norms of H's blocks by layer; the largest block is that of"
            f" {between}, {H.norms[largest]:.3g}.",
        ),
    ]


def layers(found: Findings) -> list[Part]:
    """How sharp each layer is."""
    table, H = found.layers, found.H
    sharpest = max(table.rows or (table.whole,), key=lambda row: row.largest.value)
    sharp = f"the sharpest is {sharpest.name}, with the eigenvalue {sharpest.largest.value:.3g}"
    parts = [
        *shown(table._display(), "Trace and largest eigenvalue of each layer's own block"),
        _image(table, f"Bars of the trace and the largest eigenvalue by layer; {sharp}."),
    ]
    if isinstance(H, BlockHessian) and H.is_complete:
        spectra = LayerSpectra.from_hessian(H)
        parts.append(
            _image(spectra, "The eigenvalues of each layer's own block, one layer below another.")
        )
    return parts


def spectrum(found: Findings) -> list[Part]:
    """The eigenvalues: all of them, or their density."""
    H = found.H
    if isinstance(H, BlockHessian):
        inertia, values = H.inertia(), H.eigvalsh()
        said = facts(
            inertia=str(inertia),
            smallest=f"{float(values[0]):.6g}",
            largest=f"{float(values[-1]):.6g}",
            condition=f"{H.condition_number():.3g}",
        )
        picture = Spectrum.from_hessian(H)
        undecided = (
            [
                Words(
                    "Of undecided eigenvalues rounding decides the sign: they are no larger than"
                    f" {H.tolerance:.2g}. A cost in float64 decides more of them."
                )
            ]
            if inertia.undecided
            else []
        )
        image = _image(picture, f"All {len(values):,} eigenvalues of H: {inertia}.")
        return [*_with_facts([], said), *undecided, image]
    point = found.stationary_point
    curve = density(H, memory=found.memory, progress=found.progress)
    return [
        Words(
            "Of the spectrum the ends are computed (see the extreme directions), and its density is"
            " estimated by random vectors. In the Krylov spaces that were looked at,"
            f" {point.negative:,} directions curve down and {point.positive:,} up, which are lower"
            " bounds; the others are undecided."
        ),
        *_with_facts([], facts(trace=str(trace(H, memory=found.memory, progress=found.progress)))),
        _image(curve, "The estimated density of the eigenvalues of H, on a logarithmic axis."),
    ]


def directions(found: Findings) -> list[Part]:
    """Where H is most curved."""
    pairs = found.pairs
    parts = shown(pairs._display(), "Eigenvalues at both ends, with the residuals ‖Hv − λv‖")
    names = tuple(pairs.layout.layers)
    parts.append(Rows(_shares(found, names), "How much of each eigenvector lies in which layer"))
    try:
        parts.append(_images(found))
    except HesseError as error:
        parts.append(Words(f"No part of them is shown as an image: {error}"))
    return parts


def quadratic(found: Findings) -> list[Part]:
    """The model, how far it is to be trusted, and the steps that it proposes."""
    model, trust, point = found.model, found.trust, found.stationary_point
    before, refused = found.steps.notes(trust)
    radius = "everywhere" if trust.radius == math.inf else f"up to a radius of {trust.radius:.3g}"
    said = facts(stationary_point=str(point), trusted=f"{radius}: {trust.reason}")
    # Radii of other directions are smaller; and why some steps are not here.
    notes: list[Part] = [Words(note) for note in (before, *refused) if note]
    return [
        *_with_facts(shown(model._display(), ""), said),
        Rows(found.steps.table, "The steps, and what each predicts and achieves"),
        *notes,
        _image(found.line, f"The cost and its quadratic model along a line; trusted {radius}."),
        _image(found.plane, "Contours of the cost and of its quadratic model over a plane."),
        _image(found.error, "The error of the model against the length of the step."),
        Folded("The error at growing steps", str(trust)),
    ]


def derivation(found: Findings) -> list[Part]:
    """The formula of every block, line by line."""
    d = found.derivation
    names = ", ".join(d.parameters)
    return [
        Words(f"{d.certificate}."),
        Folded(f"The derivation of every block, in {names}", fragment(d), html=True),
    ]


SECTIONS: dict[str, Callable[[Findings], list[Part]]] = {
    "The cost": cost,
    "The plan": plan,
    "The Hessian and its certificate": hessian,
    "Layers": layers,
    "The spectrum": spectrum,
    "Extreme directions": directions,
    "The quadratic model": quadratic,
    "The derivation": derivation,
}
"""By their titles, in the order of the page."""


def _image(picture: Picture, shows: str) -> Image:
    return Image(png(picture.plot, picture._size), shows)


def _with_facts(parts: list[Part], more: tuple[Fact, ...]) -> list[Part]:
    """More numbers, below those that there are."""
    place = next((k for k, part in enumerate(parts) if isinstance(part, Facts)), None)
    if place is None:
        return [*parts[:1], Facts(more), *parts[1:]]
    held = parts[place]
    assert isinstance(held, Facts)
    return [*parts[:place], Facts((*held.facts, *more)), *parts[place + 1 :]]


def _shares(found: Findings, names: tuple[str, ...]) -> Table:
    pairs, layout = found.pairs, found.pairs.layout
    rows = []
    for k, value in enumerate(pairs.values.tolist()):
        parts = pairs.vector(k)
        shares = [
            sum(float(parts[name].double().square().sum()) for name in layout.layers[layer])
            for layer in names
        ]
        most = sorted(zip(shares, names, strict=True), reverse=True)[:3]
        rows.append((f"{value:.6g}", ", ".join(f"{name} {share:.0%}" for share, name in most)))
    return Table(("eigenvalue", "the layers with most of it"), tuple(rows), (1,))


def _images(found: Findings) -> Image:
    """The eigenvectors in the parameter that meets the input, where that is an image.

    Raises:
        HesseError: it is none.
    """
    form = _input_form(found)
    pairs = found.pairs
    name = next(
        (
            name
            for name, shape in zip(pairs.layout.names, pairs.layout.shapes, strict=True)
            if (len(shape) == 2 and shape[1] == math.prod(form))
            or (len(shape) == 4 and len(form) == 3 and shape[1] == form[0])
        ),
        None,
    )
    if name is None:
        raise HesseError("no parameter meets the input in units of its size")
    image = None  # the kernel's own form, or a square
    if len(pairs.layout.shape(name)) == 2 and len(form) > 1:
        *several, height, width = form
        if math.prod(several) != 1:
            raise HesseError("the input is several images")
        image = (height, width)
    picture = Eigenvectors.from_eigenpairs(pairs, name, image)
    return _image(
        picture,
        f"The parts of the eigenvectors in {name}, a row each, unit by unit, as images of the"
        " input.",
    )


def _input_form(found: Findings) -> tuple[int, ...]:
    """The shape of one sample's input, where that is one tensor of real numbers."""
    batch = next(found.cost.batches())
    inputs: list[Tensor] = [] if batch is None else tensors_in(batch.x)
    if len(inputs) != 1 or inputs[0].ndim < 2 or not torch.is_floating_point(inputs[0]):
        raise HesseError("the input is not one array of numbers for each sample")
    return tuple(inputs[0].shape[1:])
