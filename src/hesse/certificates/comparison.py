"""When two ways of getting the same numbers agree: to rounding, at the scale of what is
compared."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hesse.certificates.drawing import drawn, shared_generator
from hesse.certificates.precision import eps_of
from hesse.certificates.reference import ByParameter, Request, of_batch, products
from hesse.certificates.rounding import ROUNDINGS, noise
from hesse.certificates.soundness import AUTOCAST, soundness
from hesse.cost import Cost
from hesse.evaluation import value_and_gradient
from hesse.process.circumstances import is_passing

# Relative differences that are rounding without a further look.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
# A part of H v this much smaller, entry by entry, than the largest is compared at the larger scale:
# what it is made of cancels.
_SMALL = {torch.float32: 1e-2, torch.float64: 1e-3}
# By how much more than its last place a gradient is rounded, which may be all that H is made of.
_OF_GRADIENT = {torch.float32: 10.0, torch.float64: 1e4}
# What rounding may hide is looked for on so many samples and products, of models that are not too
# large for more of them.
_SAMPLES, _PRODUCTS, _MOST_PARAMETERS = 32, 2, 10**6
# So much is said as it is; where more could be hidden, it is measured, which takes some gradients'
# time.
_LITTLE = 1e-2


@dataclass(frozen=True)
class Difference:
    """Two ways of getting a number that do not agree.

    Attributes:
        ours: an entry of the part of H v, where they are furthest apart.
        theirs: the same by the independent way.
        share: how far apart they are, relative to the typical entry of the largest part.
    """

    ours: float
    theirs: float
    share: float

    def __str__(self) -> str:
        return f"gave {self.ours:.6g} for a number that is {self.theirs:.6g} by double backward"


@dataclass(frozen=True)
class Comparison:
    """Two ways of getting some products.

    Attributes:
        deviations: for each product and parameter, how far they are apart, relative to the scale.
        rounding: up to where differences are rounding, on the same scale.
        wrong: for each product the parameters whose parts are further apart.
        undefined: parameters for which the independent way gives no number.
    """

    deviations: list[dict[str, float]]
    rounding: float
    wrong: list[dict[str, Difference]]
    undefined: tuple[str, ...] = ()

    @property
    def deviation(self) -> float:
        """The largest."""
        return max((d for each in self.deviations for d in each.values()), default=0.0)


def compare(
    cost: Cost,
    requests: Sequence[Request],
    ours: Sequence[ByParameter],
    theirs: Sequence[ByParameter],
    typical: Sequence[float] | None = None,
    pick: Callable[[int, ByParameter], ByParameter] = lambda place, parts: parts,
    overall: tuple[Request, dict[str, float]] | None = None,
) -> Comparison:
    """Hold products that hesse gave against the independent ones; where they differ, ask what
    rounding could do.

    Args:
        cost: the cost.
        requests: what was asked of both.
        ours: what hesse gave.
        theirs: the independent products.
        typical: the size of the entries of what is compared, for each product, where the products
            show only some of it.
        pick: what of the product at a place is compared.
        overall: a product, and the sizes of its parts, that tells what rounding may hide, where
            those compared show only some.

    Returns:
        The comparison; in ``wrong``, the largest entries of both for what differs by more than
        rounding explains.
    """
    expected = [pick(place, parts) for place, parts in enumerate(theirs)]
    tolerance = max(TOLERANCE[parameter.dtype] for parameter in cost.parameters.values())
    small = max(_SMALL[parameter.dtype] for parameter in cost.parameters.values())
    typical = [0.0] * len(ours) if typical is None else typical
    scales = [
        _scales(our, their, small, size)
        for our, their, size in zip(ours, expected, typical, strict=True)
    ]
    deviations = [
        {name: _deviation(our[name], their[name], scale[name]) for name in their}
        for our, their, scale in zip(ours, expected, scales, strict=True)
    ]
    undefined = {
        name
        for their in expected
        for name, part in their.items()
        if not bool(part.isfinite().all())
    }
    suspects = [
        {name for name, d in each.items() if not d <= tolerance and name not in undefined}
        for each in deviations
    ]
    rounding, wrong = tolerance, [dict[str, Difference]() for _ in ours]
    if any(suspects):
        roundings = _roundings(cost, requests[: len(ours)], expected, pick)
        for place, names in enumerate(suspects):
            for name in names:
                hidden = (
                    ROUNDINGS * roundings[place][name] / scales[place][name]
                    if scales[place][name]
                    else 0.0
                )
                if not deviations[place][name] <= max(hidden, tolerance):
                    wrong[place][name] = _difference(
                        ours[place], expected[place], name, typical[place]
                    )
                elif math.isfinite(hidden):
                    rounding = max(rounding, hidden)
    if not any(wrong):
        looks = (
            [overall]
            if overall is not None
            else list(zip(requests, scales, strict=False))[:_PRODUCTS]
        )
        rounding = _rounding_of_some(
            cost, [each for each, _ in looks], [scale for _, scale in looks], rounding
        )
    kept = [{name: d for name, d in each.items() if name not in undefined} for each in deviations]
    return Comparison(kept, rounding, wrong, tuple(sorted(undefined)))


def _scales(
    ours: ByParameter, expected: ByParameter, small: float, typical: float
) -> dict[str, float]:
    """For each parameter the size of its part, or that of as many typical entries of the largest
    part where it is much less."""
    norms = {name: max(_norm(ours[name]), _norm(part)) for name, part in expected.items()}
    entry = small * max(typical, _typical(expected))
    return {
        name: max(norm, entry * math.sqrt(expected[name].numel())) for name, norm in norms.items()
    }


def _typical(parts: ByParameter) -> float:
    """The largest root mean square of the entries of a part."""
    return max(
        (_norm(part) / math.sqrt(part.numel()) for part in parts.values() if part.numel()),
        default=0.0,
    )


def _norm(part: Tensor) -> float:
    norm = float(torch.linalg.vector_norm(part.double()))
    return norm if math.isfinite(norm) else 0.0


def _deviation(ours: Tensor, expected: Tensor, scale: float) -> float:
    difference = float(torch.linalg.vector_norm(ours.double() - expected.double()))
    if difference == 0:
        return 0.0
    return difference / scale if scale and math.isfinite(difference) else math.inf


def _difference(ours: ByParameter, expected: ByParameter, name: str, typical: float) -> Difference:
    """Where a parameter's part differs most."""
    gap = (ours[name].double() - expected[name].double()).abs().nan_to_num(nan=math.inf).flatten()
    place, typical = int(gap.argmax()), max(typical, _typical(expected))
    share = float(gap[place]) / typical if typical else math.inf
    return Difference(
        float(ours[name].flatten()[place]), float(expected[name].flatten()[place]), share
    )


def _rounding_of_some(
    cost: Cost, requests: Sequence[Request], scales: Sequence[dict[str, float]], least: float
) -> float:
    """What rounding may hide, judged by some samples: both ways may agree on what is rounding
    alike.

    Looked for where H v is small beside JᵀJ v: what a loss's curvature cancels from is mostly no
    larger than 1.
    """
    predictions = (
        cost.squared_error_from_own_predictions()
        if cost.loss is not None and cost.loss.separable
        else None
    )
    if predictions is None or cost.layout.size > _MOST_PARAMETERS:
        return least
    try:
        some = next(batch for batch in cost.batches() if batch is not None).take(slice(0, _SAMPLES))
        # Roundings of different samples add up in squares.
        more = ROUNDINGS * math.sqrt(cost.samples / some.size)
        eps, known = (
            eps_of(cost.dtype, cost.device),
            [scale for each in scales for scale in each.values()],
        )
        of_predictions, of_cost = (
            lambda of=of: _parts(of_batch(of, some, requests)) for of in (predictions, cost)
        )
        bound = _largest((more * eps * _norm(part) for part in of_predictions()), known)
        if bound <= _LITTLE:
            return max(least, bound)
        measured = _largest((more * size for size in noise(of_cost)), known)
    except Exception as error:  # of a model that has to have a whole batch
        if is_passing(error):
            raise
        return least
    return max(least, measured) if math.isfinite(measured) else least


def _beside(
    first: Sequence[ByParameter], second: Sequence[ByParameter]
) -> list[tuple[Tensor, Tensor]]:
    return [(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a]


def _parts(products: Sequence[ByParameter]) -> list[Tensor]:
    return [part for parts in products for part in parts.values()]


def _largest(sizes: Iterable[float], scales: Sequence[float]) -> float:
    """Of some sizes, relative to scales."""
    return max(
        (size / scale for size, scale in zip(sizes, scales, strict=True) if scale), default=0.0
    )


def _roundings(
    cost: Cost,
    requests: Sequence[Request],
    expected: Sequence[ByParameter],
    pick: Callable[[int, ByParameter], ByParameter],
) -> list[dict[str, float]]:
    """What rounding does to each product: the change where θ is rounded otherwise, and what all of
    it may be made of.

    Where H is zero, H v is the rounding of a gradient over the size of θ, times v. And where it
    cancels, as p − p² does for a confident classifier, it is the roundings of the steps.
    """
    random = shared_generator()
    eps = max(eps_of(parameter.dtype, parameter.device) for parameter in cost.parameters.values())
    again = [pick(place, parts) for place, parts in enumerate(products(cost, requests))]
    limit = math.sqrt(eps)
    moved_by = [
        _norm(b.double() - a.double()) - limit * _norm(a) for a, b in _beside(expected, again)
    ]
    if max(moved_by, default=0.0) > 0:
        # The same function gives other numbers the second time: that is no rounding, and excuses
        # nothing.
        return [dict.fromkeys(theirs, 0.0) for theirs in expected]
    if AUTOCAST in soundness(cost).notes:
        eps = max(eps, torch.finfo(torch.bfloat16).eps)
    sizes = [dict.fromkeys(theirs, 0.0) for theirs in expected]
    for _ in range(2):
        moved = {
            name: parameter
            * (1 + 2 * max(eps, torch.finfo(parameter.dtype).eps) * drawn(parameter, random).sign())
            for name, parameter in cost.parameters.items()
        }
        for place, parts in enumerate(products(cost.at(moved), requests)):
            for name, part in pick(place, parts).items():
                sizes[place][name] = max(
                    sizes[place][name], _norm(part.double() - expected[place][name].double())
                )
    gradient, length = value_and_gradient(cost)[1], _typical(cost.parameters) or 1.0
    for each, request in zip(sizes, requests, strict=True):
        for name in each:
            each[name] += (
                _OF_GRADIENT[cost.dtype]
                * eps
                * _norm(gradient[name])
                * _typical(request.columns)
                / length
            )
    steps = iter(
        noise(
            lambda: _parts(
                [pick(place, parts) for place, parts in enumerate(products(cost, requests))]
            )
        )
    )
    return [{name: size + next(steps) for name, size in each.items()} for each in sizes]
