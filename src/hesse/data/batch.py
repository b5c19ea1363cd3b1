"""One batch of the data: inputs and targets whose tensors can be cut and joined by sample, whatever
form the user's data has."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from hesse.errors import HesseTypeError, HesseValueError


def require_batch(given: Any) -> None:
    """A batch, as a cost gives them."""
    if not isinstance(given, Batch):
        raise HesseTypeError(
            f"batch: expected one of cost.batches(), got {type(given).__name__};"
            " next(cost.batches()) is the first"
        )


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of some samples.

    Attributes:
        x: the inputs: a tensor, a nest of them, a mapping, or an object of the user's.
        y: the targets, and behind them the weights where there are any; ``None`` where the inputs
            hold them.
        form: how the user's item is put together from the two.
        flat: the targets that have several rows a sample, all in one axis, by their place among the
            leaves of ``y``; here they have an axis for the samples.
        whole: whether the first axes do not count samples (a graph): the batch is one sample, and
            is never cut.
    """

    x: Any
    y: Any
    form: str = "pair"
    flat: tuple[int, ...] = ()
    whole: bool = False

    @classmethod
    def read(cls, item: Any) -> "Batch | None":
        """An item of the user's data; ``None`` where it has no form that is known."""
        if isinstance(item, Mapping):
            x = _as_dicts(item)
            return cls(x, None, "mapping")._arranged() if tensors_in(x) else None
        # By length: (X,), (X, y), (X, y, w).
        if isinstance(item, tuple | list):
            if len(item) not in (1, 2, 3) or not tensors_in(x := _as_dicts(item[0])):
                return None
            if len(item) == 1:
                return cls(x, None, "inputs")._arranged()
            y = _as_dicts(item[1])
            return cls(
                x, y if len(item) == 2 else (y, item[2]), "pair" if len(item) == 2 else "weighted"
            )._arranged()
        if isinstance(item, Tensor):
            return cls(item, None, "tensor")._arranged() if item.ndim else None
        return cls(item, None, "object", whole=True) if tensors_in(item) else None

    def _arranged(self) -> "Batch":
        """Whole, or with every tensor's first axis the samples'."""
        inputs, targets = tensors_in(self.x), pytree.tree_leaves(self.y)
        if isinstance(self.x, Tensor) and self.x.ndim == 0:
            raise HesseValueError(
                "data: an input is a tensor without axes; the first axis of every tensor counts the"
                " samples"
            )
        n = self.size if inputs[0].ndim else 0
        rows = [_rows(target, n) for target in targets]
        if any(t.ndim == 0 or len(t) != n for t in inputs) or (0 in rows and n):
            simple = isinstance(self.x, Tensor) and isinstance(self.y, Tensor)
            # Of one tensor each, lengths that do not fit are a slip.
            return self if simple else dataclasses.replace(self, whole=True)
        flat = tuple(place for place, count in enumerate(rows) if count > 1)
        leaves, spec = pytree.tree_flatten(self.y)
        cut = [t.unflatten(0, (n, -1)) if place in flat else t for place, t in enumerate(leaves)]
        return dataclasses.replace(self, y=pytree.tree_unflatten(cut, spec), flat=flat)

    @cached_property
    def size(self) -> int:
        """How many samples."""
        return 1 if self.whole else len(tensors_in(self.x)[0])

    @property
    def targets(self) -> Any:
        """What the user's loss takes beside the prediction; for a mapping without targets beside
        it, the mapping."""
        if self.form == "object":
            return getattr(self.x, "y", None)
        if self.form == "mapping":
            return self.x
        # As the user gave them: several rows a sample in one axis again.
        leaves, spec = pytree.tree_flatten(self.y)
        return pytree.tree_unflatten(
            [t.flatten(0, 1) if place in self.flat else t for place, t in enumerate(leaves)], spec
        )

    @property
    def item(self) -> Any:
        """What the user's data gave, for a function of a batch."""
        if self.form == "pair":
            return self.x, self.targets
        if self.form == "inputs":
            return (self.x,)
        return (self.x, *self.targets) if self.form == "weighted" else self.x

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with every tensor replaced; an object of the user's stays as it is."""
        x, y = pytree.tree_map_only(Tensor, function, (self.x, self.y))
        return dataclasses.replace(self, x=x, y=y)

    def take(self, samples: slice | Tensor) -> "Batch":
        """Some of the samples."""
        return (
            self
            if self.whole
            else self.map(
                lambda t: t[samples.to(t.device) if isinstance(samples, Tensor) else samples]
            )
        )

    def to(self, device: torch.device, dtype: torch.dtype | None) -> "Batch":
        """On a device, and with floating tensors narrower than ``dtype`` widened to it."""
        batch = self.map(lambda t: moved(t, device, dtype))
        if self.form == "object" and hasattr(self.x, "to"):
            return dataclasses.replace(batch, x=self.x.to(device))
        return batch

    def clone(self) -> "Batch":
        """The same numbers in memory of their own."""
        batch = self.map(Tensor.clone)
        return (
            dataclasses.replace(batch, x=self.x.clone())
            if self.form == "object" and hasattr(self.x, "clone")
            else batch
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors."""
        return tensors_in((self.x, self.y))

    # Batches of one signature share a captured graph and, unless they are whole, can be joined.
    @property
    def signature(self) -> Hashable:
        """What batches must share to be worked on together: how they are nested, every axis but the
        first, what is no tensor."""
        leaves, spec = pytree.tree_flatten((self.x, self.y))
        first = 0 if self.whole else 1
        shapes = tuple(
            (tuple(t.shape[first:]), t.dtype) if isinstance(t, Tensor) else repr(t) for t in leaves
        )
        return self.form, self.flat, self.whole, repr(spec), shapes


def concatenate(batches: list[Batch]) -> Batch:
    """One batch of several that have one signature and are not whole."""
    if len(batches) == 1:
        return batches[0]
    x, y = pytree.tree_map(
        lambda *ts: torch.cat(ts) if isinstance(ts[0], Tensor) else ts[0],
        *[(batch.x, batch.y) for batch in batches],
    )
    return dataclasses.replace(batches[0], x=x, y=y)


def moved(tensor: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """On a device, and widened to ``dtype`` where it is floating and narrower."""
    narrow = (
        dtype is not None and tensor.is_floating_point() and tensor.dtype.itemsize < dtype.itemsize
    )
    # Tensors of inference mode cannot be differentiated through; no derivative goes into the data.
    tensor = tensor.clone() if tensor.is_inference() else tensor.detach()
    return tensor.to(device, dtype if narrow else tensor.dtype)


def require_dense(index: int, batch: Batch) -> None:
    """A batch whose tensors are dense arrays with values: neither meta nor sparse."""
    for tensor in batch.tensors:
        if tensor.is_meta or tensor.layout != torch.strided:
            kind, remedy = (
                ("a meta tensor", "load its values")
                if tensor.is_meta
                else ("sparse", "use .to_dense()")
            )
            raise HesseValueError(
                f"data: batch {index} holds a tensor of shape {tuple(tensor.shape)} that is {kind};"
                f" {remedy}"
            )


def require_usable(index: int, batch: Batch) -> None:
    """A batch of one length, with finite numbers, and weights that are not negative."""
    for what, value in (("inputs", batch.x), ("targets", batch.y)):
        for leaf in tensors_in(value):
            if not batch.whole and (leaf.ndim == 0 or leaf.shape[0] != batch.size):
                raise HesseValueError(
                    f"data: batch {index} has {batch.size} inputs, and its {what} have shape"
                    f" {tuple(leaf.shape)}; the first axis of every tensor counts the samples"
                )
            if leaf.is_floating_point() and not bool(torch.isfinite(leaf).all()):
                bad = int((~torch.isfinite(leaf)).sum())
                raise HesseValueError(
                    f"data: batch {index} has {bad} {what} that are not finite (nan or inf); remove"
                    " those samples"
                )
    if batch.form == "weighted":
        weights = batch.y[1]
        if (
            not isinstance(weights, Tensor)
            or weights.shape != (batch.size,)
            or bool((weights < 0).any())
        ):
            shape = tuple(weights.shape) if isinstance(weights, Tensor) else None
            description = (
                type(weights).__name__
                if shape is None
                else "negative ones"
                if shape == (batch.size,)
                else f"shape {shape}"
            )
            samples = len(tensors_in(batch.x)[0])
            raise HesseValueError(
                f"data: batch {index} is (X, y, w); w has to be a weight >= 0 for each of its"
                f" {samples} samples, got {description}"
            )


def _rows(target: Any, samples: int) -> int:
    """How many rows a target has for each sample; 0 where its first axis does not count them."""
    if not isinstance(target, Tensor):
        return 1
    return len(target) // samples if target.ndim and samples and len(target) % samples == 0 else 0


def _as_dicts(nest: Any) -> Any:
    """Mappings of any class as dictionaries, which PyTorch's trees know."""
    if isinstance(nest, Mapping):
        return {key: _as_dicts(value) for key, value in nest.items()}
    return type(nest)(map(_as_dicts, nest)) if type(nest) in (tuple, list) else nest


def tensors_in(nest: Any) -> list[Tensor]:
    """The tensors in a nest, and in an object that shows itself as a dictionary (torch_geometric's
    Data)."""
    # PyTorch's trees do not look into objects: those of graphs say what they hold.
    leaves = pytree.tree_leaves(nest)
    shown = [leaf.to_dict() if hasattr(leaf, "to_dict") else leaf for leaf in leaves]
    return [leaf for leaf in pytree.tree_leaves(shown) if isinstance(leaf, Tensor)]
