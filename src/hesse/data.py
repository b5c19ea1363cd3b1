"""The data of a cost: one batch, or batches that can be read again, always the same samples."""

import math
import random
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.errors import HesseTypeError, HesseValueError


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of some samples; the first axis of every tensor counts them."""

    x: Any
    y: Any

    @property
    def size(self) -> int:
        """How many samples."""
        return batch_size(self.x)

    def take(self, samples: slice) -> "Batch":
        """Some of the samples."""
        return Batch(*pytree.tree_map_only(Tensor, lambda t: t[samples], (self.x, self.y)))

    def to(self, device: torch.device, dtype: torch.dtype | None) -> "Batch":
        """On a device, and with floating tensors narrower than ``dtype`` widened to it."""
        return Batch(*pytree.tree_map_only(Tensor, lambda t: moved(t, device, dtype), (self.x, self.y)))

    def clone(self) -> "Batch":
        """The same numbers in memory of their own."""
        return Batch(*pytree.tree_map_only(Tensor, Tensor.clone, (self.x, self.y)))

    @property
    def signature(self) -> Hashable:
        """What batches must share to be worked on together: how they are nested, every axis but the first, what is no tensor."""
        leaves, spec = pytree.tree_flatten((self.x, self.y))
        return spec, tuple((tuple(t.shape[1:]), t.dtype) if isinstance(t, Tensor) else repr(t) for t in leaves)


def moved(tensor: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """On a device, and widened to ``dtype`` where it is floating and narrower."""
    narrow = dtype is not None and tensor.is_floating_point() and tensor.dtype.itemsize < dtype.itemsize
    # Tensors of inference mode cannot be differentiated through; no derivative goes into the data.
    tensor = tensor.clone() if tensor.is_inference() else tensor.detach()
    return tensor.to(device, dtype if narrow else tensor.dtype)


def batch_size(x: Any) -> int:
    """The length of the first axis of the first tensor in a nest of tensors."""
    first = next(leaf for leaf in pytree.tree_leaves(x) if isinstance(leaf, Tensor))
    if first.ndim == 0:
        raise HesseValueError("data: an input is a tensor without axes; the first axis of every tensor counts the samples")
    return first.shape[0]


def concatenate(batches: list[Batch]) -> Batch:
    """One batch of several that have one signature."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        *pytree.tree_map(lambda *ts: torch.cat(ts) if isinstance(ts[0], Tensor) else ts[0], *[(b.x, b.y) for b in batches])
    )


class Data:
    """The batches behind the ``data`` argument of a cost.

    Every pass starts from the random state of the first, so a loader that shuffles, drops or augments at random gives the
    same batches each time; the state outside stays as it was.
    """

    def __init__(self, source: Any, device: torch.device, widen: torch.dtype | None = None) -> None:
        self.is_single = _is_pair(source) and not all(_is_pair(part) for part in source)
        self._source: Iterable[Any] = [tuple(source)] if self.is_single else source
        self._device, self._widen = device, widen
        _check_readable(source, self.is_single)
        self._randomness = _Randomness(getattr(source, "generator", None))

    @property
    def is_ordered(self) -> bool:
        """Whether the batches lie in a list, so that reading them draws on no random state."""
        return isinstance(self._source, list | tuple)

    def __iter__(self) -> Iterator[Batch]:
        items = self._source if self.is_ordered else self._randomness.iterate(self._source)
        for index, item in enumerate(items):
            if not _is_pair(item) or not _has_tensor(item[0]):
                raise HesseTypeError(f"data: batch {index} is a {_described(item)}; expected a pair (inputs, targets) of tensors")
            batch = Batch(item[0], item[1]).to(self._device, self._widen)
            if batch.size:
                yield batch

    def survey(self, visit: Callable[[int, Batch], None]) -> int:
        """A checking pass: calls ``visit(index, batch)`` and returns the number of samples.

        A loader is read once more and order-free sums are compared, so that data which does not come again is found
        before long work.

        Raises:
            HesseValueError: no samples, lengths that differ, numbers that are not finite, or other samples each time.
        """
        repeats = self.is_ordered
        samples, first = 0, _Sums()
        for index, batch in enumerate(self):
            _check_batch(index, batch)
            visit(index, batch)
            samples += batch.size
            if not repeats:
                first.add(batch)
        if not samples:
            raise HesseValueError("data: the data set is empty; the cost is a sum over at least one sample")
        if not repeats:
            self._check_repeats(first)
        return samples

    def _check_repeats(self, first: "_Sums") -> None:
        second = _Sums()
        for batch in self:
            second.add(batch)
        if not first.like(second):
            raise HesseValueError(
                "data: the loader gave other samples in its second pass (it can be read only once, or draws from a generator of "
                "its own); the Hessian needs the same data each time: turn the randomness off, or pass list(loader)"
            )


class _Randomness:
    """The global random states (torch, numpy, Python) and a loader's own generator, at the time of construction."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator if isinstance(generator, torch.Generator) else None
        self._first = self._read()

    def _read(self) -> tuple[Any, ...]:
        own = None if self._generator is None else self._generator.get_state()
        return torch.get_rng_state(), np.random.get_state(), random.getstate(), own

    def _write(self, states: tuple[Any, ...]) -> None:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if self._generator is not None:
            self._generator.set_state(states[3])

    def iterate(self, source: Iterable[Any]) -> Iterator[Any]:
        """Iterate from the first states, while outside, also between the items, the states stay as they were."""
        inside, iterator = self._first, None
        while True:
            outside = self._read()
            self._write(inside)
            try:
                iterator = iter(source) if iterator is None else iterator
                item = next(iterator)
            except StopIteration:
                return
            finally:
                inside = self._read()
                self._write(outside)
            yield item


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2


def _has_tensor(part: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(part))


def _described(item: Any) -> str:
    kinds = list(dict.fromkeys(type(part).__name__ for part in item)) if isinstance(item, tuple | list) else []
    return type(item).__name__ + (f" of {len(item)} ({', '.join(kinds[:3])})" if kinds else "")


def _check_readable(source: Any, is_single: bool) -> None:
    if is_single:
        if not _has_tensor(source[0]):
            raise HesseTypeError(
                f"data: expected tensors (X, y), got ({_described(source[0])}, {_described(source[1])}); "
                "convert arrays with torch.as_tensor"
            )
        return
    if isinstance(source, Tensor) or not isinstance(source, Iterable):
        raise HesseTypeError(
            f"data: expected a pair (X, y) of tensors or a re-iterable of such batches (a DataLoader), got {_described(source)}"
        )
    if isinstance(source, Iterator):
        raise HesseValueError(
            f"data: this {type(source).__name__} can be read only once, and the work reads it several times; "
            "pass a list of batches or a DataLoader"
        )


def _check_batch(index: int, batch: Batch) -> None:
    for what, value in (("inputs", batch.x), ("targets", batch.y)):
        for leaf in pytree.tree_leaves(value):
            if not isinstance(leaf, Tensor):
                continue
            if leaf.ndim == 0 or leaf.shape[0] != batch.size:
                raise HesseValueError(
                    f"data: batch {index} has {batch.size} inputs, and its {what} have shape {tuple(leaf.shape)}; "
                    "the first axis of every tensor counts the samples"
                )
            if leaf.is_floating_point() and not bool(torch.isfinite(leaf).all()):
                bad = int((~torch.isfinite(leaf)).sum())
                raise HesseValueError(
                    f"data: batch {index} has {bad} {what} that are not finite (nan or inf); remove those samples"
                )


class _Sums:
    """Sums over the samples that do not depend on their order, to tell one pass from another."""

    def __init__(self) -> None:
        self._sums = [0.0, 0.0, 0.0, 0.0]

    def add(self, batch: Batch) -> None:
        """Count a batch in."""
        self._sums[0] += batch.size
        for place, leaf in enumerate(leaf for leaf in pytree.tree_leaves((batch.x, batch.y)) if isinstance(leaf, Tensor)):
            rows = leaf.double().reshape(len(leaf), -1)
            self._sums[1] += float(rows.sum()) * (place + 1)
            self._sums[2] += float(rows.square().sum())
            self._sums[3] += float(rows.sum(1).square().sum())

    def like(self, other: "_Sums") -> bool:
        """Equal to rounding."""
        return all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6) for a, b in zip(self._sums, other._sums, strict=True))
