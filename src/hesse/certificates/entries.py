"""What of a diagonal is held against double backward: single entries, drawn at random."""

import math
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hesse.certificates.comparison import compare
from hesse.certificates.drawing import drawn, shared_generator
from hesse.certificates.matrix import Verdict, agreed, certificate_of
from hesse.certificates.reference import SHARE, ByParameter, Limit, Request, independent, products

if TYPE_CHECKING:
    from hesse.cost import Cost

# More entries than this tell hardly more, and take a product each.
_MOST = 64


def certify_diagonal(
    cost: "Cost",
    diagonal: dict[str, Tensor],
    seconds: float,
    notes: tuple[str, ...] = (),
    memory: int | None = None,
) -> Verdict:
    """Hold entries of a diagonal against double backward: at least one, and as many parameters as
    15 % or six gradients allow.

    Args:
        cost: the cost.
        diagonal: that of its Hessian.
        seconds: what making it took.
        notes: for the certificate.
        memory: bytes to work in, where samples are known to be independent.
    """
    start, (cost, notes) = time.perf_counter(), independent(cost, notes)
    random = shared_generator()
    names = [name for name in cost.layout.names if cost.layout.sizes[name]]
    order = [names[int(k)] for k in torch.randperm(len(names), generator=random, device="cpu")]
    # First one of every parameter, drawn by size, for a wrong factor shows where there is something
    # to multiply; then any.
    drawings = [(name, _by_size(diagonal[name], random)) for name in order]
    drawings += [
        (name, int(torch.randint(cost.layout.sizes[name], (1,), generator=random, device="cpu")))
        for name in order
    ]
    requests = [_entry(cost, name, place) for name, place in drawings[:_MOST]]
    expected = products(cost, requests, Limit(1, SHARE * seconds, memory))
    done = drawings[: len(expected)]

    def pick(place: int, parts: ByParameter) -> ByParameter:
        name, entry = done[place]
        return {name: parts[name].flatten()[entry]}

    sizes = [
        float(part.double().square().mean().sqrt()) for part in diagonal.values() if part.numel()
    ]
    typical = max((size for size in sizes if math.isfinite(size)), default=0.0)
    ours = [pick(place, diagonal) for place in range(len(done))]
    comparison = compare(
        cost,
        requests[: len(done)],
        ours,
        expected,
        [typical] * len(done),
        pick,
        _overall(cost, diagonal, random),
    )
    seen = len({name for name, _ in done})
    compared = (
        f"{len(done)} entr{'ies' if len(done) != 1 else 'y'} of {seen} of {len(cost.layout.names)}"
        " parameters"
    )
    wrong = {name: difference for each in comparison.wrong for name, difference in each.items()}
    return agreed(
        Verdict(
            certificate_of(cost, comparison, compared, start, notes), wrong, comparison.undefined
        )
    )


def _overall(
    cost: "Cost", diagonal: dict[str, Tensor], random: torch.Generator
) -> tuple[Request, dict[str, float]]:
    """All columns at once: roundings in one entry or another show as they do in the diagonal, and
    are held against its size."""
    signs = {name: drawn(parameter, random).sign() for name, parameter in cost.parameters.items()}
    return Request(signs, cost.layout.names), {
        name: float(part.double().norm()) for name, part in diagonal.items()
    }


def _by_size(entries: Tensor, random: torch.Generator) -> int:
    weights = entries.detach().double().abs().flatten().cpu()
    finite = bool(weights.isfinite().all()) and float(weights.sum()) > 0 and weights.numel() < 2**24
    if not finite:
        return int(torch.randint(weights.numel(), (1,), generator=random, device="cpu"))
    return int(torch.multinomial(weights / weights.max(), 1, generator=random))


def _entry(cost: "Cost", name: str, place: int) -> Request:
    unit = torch.zeros_like(cost.parameters[name])
    unit.view(-1)[place] = 1
    return Request({name: unit}, (name,))
