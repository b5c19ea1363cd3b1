"""What was made of samples is held against autograd of the function as given: the sum over a batch,
and one sample of it by itself, for a sum does not show which sample is which."""

import math
import time
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from hesse.certificates.certificate import Certificate
from hesse.certificates.comparison import TOLERANCE
from hesse.certificates.drawing import generator
from hesse.data.batch import Batch
from hesse.products.agreement import difference
from hesse.samples.one_by_one import Parts
from hesse.samples.quantities import Probe, Quantity


@final
class Check:
    """The check of one pass over the data.

    Args:
        quantity: what is made.
        certify: whether every batch is held against autograd.
    """

    def __init__(self, quantity: Quantity, certify: bool) -> None:
        self._quantity, self._certify, self._random = quantity, certify, generator()
        self._deviation, self._samples, self._seconds = 0.0, 0, 0.0

    def fails(self, batch: Batch, parts: Parts) -> bool:
        """Whether what was made of a batch's samples is wrong."""
        if not self._certify:
            return False
        start = time.perf_counter()
        probes = self._quantity.probes(batch, summed := _sum(parts))
        typical = _typical(summed)
        if batch.size > 1:
            n = int(torch.randint(batch.size, (1,), generator=self._random, device="cpu"))
            alone = {key: part[n] for key, part in parts.items()}
            probes += self._quantity.probes(batch.take(slice(n, n + 1)), alone)
        failed = False
        for probe in probes:
            theirs = _alike(probe)
            failed |= any(_differs(probe, [name], theirs) for name in probe.ours)
            self._deviation = max(self._deviation, _deviation(probe, theirs, typical))
        self._samples += batch.size
        self._seconds += time.perf_counter() - start
        return failed

    def couples(self, batch: Batch, parts: Parts) -> bool:
        """Whether what samples bring alone does not add up to what they bring together."""
        probes = self._quantity.probes(batch, _sum(parts))
        return any(_differs(probe, list(probe.ours), _alike(probe)) for probe in probes)

    @property
    def certificate(self) -> Certificate | None:
        """What was compared so far; ``None`` where nothing was."""
        if not self._samples:
            return None
        return Certificate(
            deviation=self._deviation,
            compared=f"{self._quantity.compared} of every batch, and of one of its samples",
            method="autograd of the function as given",
            samples=self._samples,
            seconds=self._seconds,
            rounding=max(TOLERANCE[p.dtype] for p in self._quantity.cost.parameters.values()),
        )


def _sum(parts: Parts) -> Parts:
    return {key: part.detach().sum(0) for key, part in parts.items()}


def _alike(probe: Probe) -> Parts:
    """What is known in another way, in the dtypes of what it is held against."""
    theirs = probe.theirs()
    return {name: theirs[name].to(ours.dtype) for name, ours in probe.ours.items()}


def _differs(probe: Probe, names: Sequence[Any], theirs: Parts) -> bool:
    """Whether some parts differ by more than rounding, on the scale of the largest of them."""

    def again() -> list[Tensor]:
        known = _alike(probe)
        return [known[name] for name in names]

    ours, expected = ([parts[name] for name in names] for parts in (probe.ours, theirs))
    return difference(ours, expected, again) is not None


def _typical(parts: Parts) -> float:
    """The root mean square of the entries of the largest part."""
    sizes = [float(part.double().square().mean().sqrt()) for part in parts.values() if part.numel()]
    return max((size for size in sizes if math.isfinite(size)), default=0.0)


def _deviation(probe: Probe, theirs: Parts, typical: float) -> float:
    """How far apart the two are, relative to what was compared or, where that cancels, to as many
    typical entries."""
    gap = sum(float((ours - theirs[name]).norm()) ** 2 for name, ours in probe.ours.items())
    size = sum(float(part.norm()) ** 2 for part in theirs.values())
    size = max(size, typical**2 * sum(part.numel() for part in theirs.values()))
    return (gap / size) ** 0.5 if size else 0.0
