"""Whether a cost is convex in a parameter, with what shows it: the form of its Hessian, or a point
and a direction."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from hesse.derivation.calculus.algebra import scale
from hesse.derivation.calculus.expression import Expression
from hesse.derivation.check.point import valuation
from hesse.derivation.check.valuation import Valuation
from hesse.derivation.convexity.gram import grams
from hesse.derivation.lines.records import Block
from hesse.derivation.show.text_writer import text
from hesse.display import Display, Displayed, facts

if TYPE_CHECKING:
    from hesse.derivation.derivation import Derivation

POINTS = 12  # at which a direction of each sign is looked for
AGAINST = 2  # at which a form has to agree with the eigenvalues
# Below this part of the largest entry of a term an eigenvalue is zero, up to rounding.
ZERO = 1e-9

Verdict = Literal["convex", "concave", "linear", "neither", "not convex", "not concave", "unknown"]


@dataclass(frozen=True, repr=False)
class Convexity(Displayed):
    """A verdict and its certificate.

    Attributes:
        parameter: in which the cost is seen as a function, all else held.
        verdict: ``"convex"``, ``"concave"`` and ``"linear"`` hold at every point;
            ``"neither"``, ``"not convex"`` and ``"not concave"`` are shown by a point; where
            nothing was shown it is ``"unknown"``.
        reason: what shows it.
        point: arrays at which the curvature along the direction is negative, for a verdict of
            ``"neither"`` or ``"not convex"``; positive, of ``"not concave"``; else None.
        direction: of the shape of the parameter.
        curvature: vᵀHv at the point along the direction v of length one.
    """

    parameter: str
    verdict: Verdict
    reason: str
    point: Mapping[str, Tensor] | None = None
    direction: Tensor | None = None
    curvature: float | None = None

    def _display(self) -> Display:
        shown = () if self.point is None else ("c.point", "c.direction", "c.curvature")
        return Display(
            "Convexity",
            f"{self.verdict} in {self.parameter}",
            facts(reason=self.reason),
            next=("c.verdict", *shown),
        )

    def __str__(self) -> str:
        return f"{self.verdict} in {self.parameter}: {self.reason}"


def convexity(derivation: "Derivation", block: Block) -> Convexity:
    """The verdict on a diagonal block.

    A sum of Gram matrices Σ w g gᵀ whose weights w are not negative is positive semidefinite, and
    so is what softmax gives, the covariance Σ p g gᵀ − (Σ p g)(Σ p g)ᵀ (Boyd and Vandenberghe,
    Convex Optimization, 2004, section 3.1.5). Where the Hessian has neither form, eigenvalues at
    random points of small sizes can show that it is not semidefinite, and nothing shows that it is.
    """
    name = block.rows.name
    if block.expression.is_zero:
        return Convexity(name, "linear", "the Hessian is zero")
    lowest, highest = _extremes(derivation, block, AGAINST)
    if lowest is None and (shown := _by_form(derivation, block, 1)):
        return Convexity(name, "convex", f"positive semidefinite: {shown}")
    if highest is None and (shown := _by_form(derivation, block, -1)):
        return Convexity(name, "concave", f"negative semidefinite: minus the Hessian: {shown}")
    return _by_points(derivation, block)


def _by_form(derivation: "Derivation", block: Block, sign: int) -> str:
    """What shows that the block, times a sign, is positive semidefinite; "" where nothing does."""
    program = derivation.program
    found = grams(scale(block.expression, sign), block.rows, block.columns, program)
    sentences = []
    for part in found or ():
        weights = "" if part.weights is None else f" {text(part.weights, program)}"
        sentences.append(f"{text(Expression((part.term,)), program)} {part.reason}{weights}")
    return "; ".join(sentences)


@dataclass(frozen=True)
class _Curvature:
    """An eigenvalue of a block at a point, and its eigenvector in the shape of the parameter."""

    value: float
    point: Valuation
    direction: Tensor


def _extremes(
    derivation: "Derivation", block: Block, points: int
) -> tuple[_Curvature | None, _Curvature | None]:
    """The most negative and the most positive curvature at some random points; None where there is
    none."""
    lowest: _Curvature | None = None
    highest: _Curvature | None = None
    for seed in range(points):
        point = valuation(derivation.program, 1000 + seed, derivation.functions)
        free = (*block.rows.indices, *block.columns.indices)
        array = point.array(block.expression, free)
        matrix = array.reshape(isqrt(array.numel()), -1)
        if not bool(matrix.isfinite().all()):
            continue
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        # Where terms cancel, as in the deviation of two numbers, their rounding is left.
        terms = (point.array(term, free) for term in block.expression.terms)
        least = ZERO * max(float(term.abs().max()) for term in terms)
        shape = [point.size(index.size) for index in block.rows.indices]
        low, high = (
            _Curvature(float(values[k]), point, vectors[:, k].reshape(shape)) for k in (0, -1)
        )
        if low.value < -least and (lowest is None or low.value < lowest.value):
            lowest = low
        if high.value > least and (highest is None or high.value > highest.value):
            highest = high
    return lowest, highest


def _by_points(derivation: "Derivation", block: Block) -> Convexity:
    name = block.rows.name
    lowest, highest = _extremes(derivation, block, POINTS)
    if lowest is not None and highest is not None:
        return _shown(name, "neither", "there is a positive curvature too", lowest)
    why = f"its form shows no more, and neither do {POINTS} random points"
    if lowest is not None:
        return _shown(name, "not convex", why, lowest)
    if highest is not None:
        return _shown(name, "not concave", why, highest)
    return Convexity(name, "unknown", "no random point has a curvature that is not zero")


def _shown(name: str, verdict: Verdict, why: str, found: _Curvature) -> Convexity:
    arrays, leaves = found.point.arrays, found.point.program.leaves.values()
    free = {leaf.name: arrays[leaf.name] for leaf in leaves if leaf.is_given}
    reason = f"at .point the curvature along .direction is {found.value:.3g}; {why}"
    return Convexity(name, verdict, reason, free, found.direction, found.value)
