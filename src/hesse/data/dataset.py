"""The data set of a cost: one batch, or batches that can be read again and are the same samples
each time."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from hesse.data.arrays import Numbers, batches_of, outline
from hesse.data.batch import Batch, require_dense, require_usable
from hesse.data.dealt import parts_of
from hesse.data.digest import digest
from hesse.errors import HesseError, HesseTypeError, HesseValueError, in_a_line
from hesse.process.generators import RandomStream, States


class Data:
    """The batches behind the ``data`` argument of a cost.

    Every pass starts from the random state of the first, so a loader that shuffles, drops or
    augments at random gives the same batches each time; the state outside stays as it was.
    """

    def __init__(
        self,
        source: Any,
        device: torch.device,
        numbers: Numbers,
        widen: torch.dtype | None = None,
        single: bool | None = None,
    ) -> None:
        """Data to be read.

        Args:
            source: what the user gave.
            device: where the batches go.
            numbers: what arrays become tensors of.
            widen: the dtype that narrower floating tensors are widened to.
            single: whether the source is one batch, where it may be read both ways; by default it
                is several then.
        """
        source = batches_of(source, numbers)
        form = outline(source)
        # A list of mappings holds batches; a tuple of two may hold inputs and targets.
        nested = isinstance(form, tuple) or (
            isinstance(form, list) and not any(isinstance(part, Mapping) for part in form)
        )
        self.is_ambiguous = nested and len(form) == 2 and all(map(_is_item, form))
        self.is_single = _is_item(form) if single is None else single
        _check_readable(form, self.is_single)
        self._given = source
        self._source: Any = [source] if self.is_single else source
        # Arrays become tensors now, and not anew in every pass.
        if form is not source and self.is_ordered:
            self._source = [numbers.item(item) for item in self._source]
        # Of a sampler that deals them out to several processes all of them are meant.
        self._dealt = parts_of(source)
        self._device, self._numbers, self._widen = device, numbers, widen
        self._randomness = _Randomness(getattr(source, "generator", None))
        self._note()

    def _note(self) -> None:
        """Note how the data are, so that it shows where they change."""
        held = self._source if self.is_ordered else ()
        # PyTorch counts writes into a tensor; one that is written into later shows by its version.
        self._held = [
            (t, t._version) for item in held for t in _tensors_of(item) if not t.is_inference()
        ]
        self._count = len(held) if self.is_ordered else 0

    # A copy counts its own writes; what was written into before must not pass for the data.
    def __getstate__(self) -> dict[str, Any]:
        self.check_unchanged()
        return {name: value for name, value in vars(self).items() if name != "_held"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._note()

    def read_as(self, single: bool) -> "Data":
        """The same read as one batch, or as several."""
        return Data(self._given, self._device, self._numbers, self._widen, single)

    @property
    def is_ordered(self) -> bool:
        """Whether the batches lie in a list, so that reading them draws on no random state."""
        return isinstance(self._source, list | tuple)

    def check_unchanged(self) -> None:
        """Refuse tensors that were written into, or a list that was added to, since the data was
        first read.

        Raises:
            HesseValueError: what was summed over the old data, the divisor of a mean, does not fit
                the new.
        """
        if self.is_ordered and len(self._source) != self._count:
            raise HesseValueError(
                f"data: the list held {self._count} batches when the cost was made and holds"
                f" {len(self._source)} now; make the cost anew"
            )
        for tensor, version in self._held:
            if tensor._version != version:
                raise HesseValueError(
                    f"data: a tensor of shape {tuple(tensor.shape)} was written into after the cost"
                    " was made, which is of the data as it was; make the cost anew, or give it a"
                    " copy"
                )

    def __iter__(self) -> Iterator[Batch]:
        yield from self._read(self._source if self._dealt is None else chain(*self._dealt))

    def part(self, rank: int) -> Iterator[tuple[int, Batch]] | None:
        """What a sampler deals to a rank, with the place that each batch has among all; ``None``
        where none does."""
        if self._dealt is None:
            return None
        return enumerate(self._read(self._dealt[rank]), sum(map(len, self._dealt[:rank])))

    @property
    def count(self) -> float:
        """How many batches there are; infinitely many where that is not known."""
        try:
            return len(self._source)
        except TypeError:  # of what can only be iterated
            return math.inf

    @cached_property
    def digest(self) -> str:
        """What tells these data, in this order, from others; read once."""
        return digest(tensor for batch in self for tensor in batch.tensors)

    def _read(self, source: Iterable[Any]) -> Iterator[Batch]:
        self.check_unchanged()
        items = source if self.is_ordered else self._randomness.iterate(source)
        for index, item in enumerate(items):
            batch = Batch.read(self._numbers.item(item))
            if batch is None:
                raise HesseTypeError(
                    f"data: batch {index} is a {_described(item)}; expected a pair (inputs,"
                    " targets) of tensors, a triple with weights of the samples behind them, or a"
                    " mapping of the model's arguments"
                )
            require_dense(index, batch)
            batch = batch.to(self._device, self._widen)
            # A batch of no samples adds nothing.
            if batch.size:
                yield batch

    def validate(self, visit: Callable[[int, Batch], None]) -> int:
        """A checking pass: calls ``visit(index, batch)`` and returns the number of samples.

        A loader is read once more and order-free sums are compared, so that data which does not
        come again is found before long work.

        Raises:
            HesseValueError: no samples, lengths that differ, numbers that are not finite, or other
                samples each time.
        """
        repeats = self.is_ordered
        samples, first = 0, _Sums()
        for index, batch in enumerate(self):
            require_usable(index, batch)
            visit(index, batch)
            samples += batch.size
            if not repeats:
                first.add(batch)
        if not samples:
            raise HesseValueError(
                "data: the data set is empty; the cost is a sum over at least one sample"
            )
        if not repeats:
            self._check_repeats(first)
        return samples

    def _check_repeats(self, first: "_Sums") -> None:
        second = _Sums()
        for batch in self:
            second.add(batch)
        if not first.like(second):
            raise HesseValueError(
                "data: the loader gave other samples in its second pass (it can be read only once,"
                " or draws from a generator of its own); the Hessian needs the same data each time:"
                " turn the randomness off, or pass list(loader)"
            )


class _Randomness:
    """The global random states (torch, numpy, Python) and a loader's own generator, at the time of
    construction."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator if isinstance(generator, torch.Generator) else None
        self._first = States.read(self._generator)

    def iterate(self, source: Iterable[Any]) -> Iterator[Any]:
        """Iterate from the first states, while outside, also between the items, the states stay as
        they were."""
        stream, iterator = RandomStream(self._first, self._generator), None
        while True:
            with stream.drawing():
                try:
                    iterator = iter(source) if iterator is None else iterator
                    item = next(iterator)
                except StopIteration:
                    return
                except HesseError:
                    raise
                except Exception as error:  # of the user's data set, sampler or collate function
                    raise HesseValueError(
                        f"data: reading a batch of this {type(source).__name__} failed:"
                        f" {in_a_line(error)}"
                    ) from error
            yield item


def _is_item(source: Any) -> bool:
    """Whether this is one batch rather than several: a pair or triple of parts that are not batches
    themselves, a mapping, ..."""
    if isinstance(source, tuple | list):
        return len(source) in (1, 2, 3) and not all(map(_is_item, source))
    return not isinstance(source, Tensor) and Batch.read(source) is not None


def _tensors_of(item: Any) -> list[Tensor]:
    batch = Batch.read(item)
    return [] if batch is None else batch.tensors


def _described(item: Any) -> str:
    kinds = (
        list(dict.fromkeys(type(part).__name__ for part in item))
        if isinstance(item, tuple | list)
        else []
    )
    return type(item).__name__ + (f" of {len(item)} ({', '.join(kinds[:3])})" if kinds else "")


def _check_readable(source: Any, is_single: bool) -> None:
    if is_single:
        if Batch.read(source) is None:
            parts = (
                ", ".join(map(_described, source))
                if isinstance(source, tuple | list)
                else _described(source)
            )
            raise HesseTypeError(
                f"data: expected tensors, arrays or tables (X, y), got ({parts}); convert lists,"
                " torch.as_tensor(X)"
            )
        return
    if source is None:
        raise HesseTypeError(
            "data: missing; a cost is of a model, a loss and data: give a pair (X, y) of tensors,"
            " arrays or tables, a Dataset, or a re-iterable of such batches (a DataLoader), as in"
            " hesse.Cost(model, loss, (X, y))"
        )
    if isinstance(source, Tensor) or not isinstance(source, Iterable):
        raise HesseTypeError(
            "data: expected a pair (X, y) of tensors, arrays or tables, a Dataset, or a re-iterable"
            f" of such batches (a DataLoader), got {_described(source)}"
        )
    # A generator, a zip: spent after one pass, and there are at least two.
    if isinstance(source, Iterator):
        raise HesseValueError(
            f"data: this {type(source).__name__} can be read only once, and the work reads it"
            " several times; pass a list of batches or a DataLoader"
        )


class _Sums:
    """Sums over the samples that do not depend on their order, to tell one pass from another."""

    def __init__(self) -> None:
        # Samples, entries, squares of entries, squares of rows: what a shuffle within a batch, or
        # of the batches, leaves as it is, and other samples do not.
        self._sums = [0.0, 0.0, 0.0, 0.0]

    def add(self, batch: Batch) -> None:
        """Count a batch in."""
        self._sums[0] += batch.size
        for place, leaf in enumerate(batch.tensors):
            rows = leaf.double().reshape(1 if batch.whole else len(leaf), -1)
            self._sums[1] += float(rows.sum()) * (place + 1)
            self._sums[2] += float(rows.square().sum())
            self._sums[3] += float(rows.sum(1).square().sum())

    def like(self, other: "_Sums") -> bool:
        """Equal to rounding."""
        return all(
            # Far above float64's rounding of sums in another order, far below another sample.
            math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)
            for a, b in zip(self._sums, other._sums, strict=True)
        )
