"""NumPy arrays, pandas tables and data sets of single samples, as batches of tensors."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from hesse.errors import HesseTypeError, HesseValueError

# Samples of a data set that are read together.
_TOGETHER = 512


@dataclass(frozen=True)
class Numbers:
    """Of which dtype the numbers are that come in arrays and tables.

    Every array is copied, once: a cost is of the data as it was, and NumPy does not say when an
    array is written into.

    Attributes:
        real: of real numbers, and of all columns of a table: that of the model's parameters.
        labels: whether whole numbers among the targets are numbers of classes, in int64; else they
            are real, as the 0 and 1 of a binary cross entropy.
    """

    real: torch.dtype
    labels: bool = True

    def item(self, item: Any, collated: bool = False) -> Any:
        """What a user's data gave, its arrays as tensors: the inputs, the targets by their loss,
        and weights, which are real. The same object where it holds no array.

        Args:
            item: a pair, a triple, a mapping, ...
            collated: whether its tensors were made here, of single samples, so that their dtypes
                are nobody's choice.
        """
        if not isinstance(item, tuple | list) or len(item) not in (2, 3):
            return self._tensors(item, None, collated)
        targets = torch.int64 if self.labels else self.real
        whole = (None, targets, self.real)[: len(item)]
        _require_same_rows(item)
        parts = [
            self._tensors(part, dtype, collated) for part, dtype in zip(item, whole, strict=True)
        ]
        return item if all(map(_is, parts, item)) else _rebuilt(item, parts)

    def collate(self, samples: list[Any]) -> Any:
        """Single samples as one batch."""
        return self.item(default_collate(samples), collated=True)

    def _tensors(self, nest: Any, whole: torch.dtype | None, collated: bool) -> Any:
        """The arrays of a nest as tensors, their whole numbers as ``whole``; by ``None`` truth
        values stay, and numbers are int64."""
        if collated:
            nest = pytree.tree_map_only(Tensor, partial(self._cast, whole=whole), nest)
        return _mapped(nest, partial(self._tensor, whole=whole))

    def _cast(self, tensor: Tensor, whole: torch.dtype | None) -> Tensor:
        if tensor.is_floating_point():
            return tensor.to(self.real)
        return tensor if whole is None or tensor.is_complex() else tensor.to(whole)

    def _tensor(self, array: Any, whole: torch.dtype | None) -> Tensor:
        if not isinstance(array, np.ndarray):
            return torch.from_numpy(_of_pandas(array, self.real, whole))
        _require_numbers(array)
        dtype = {"f": self.real, "c": None, "b": whole}.get(array.dtype.kind, whole or torch.int64)
        native = array.dtype.newbyteorder("=") if dtype is None else _numpy(dtype)
        return torch.from_numpy(np.array(array, dtype=native, order="C"))


def is_array(value: Any) -> bool:
    """Whether it is an array of NumPy, or a table or a column of pandas."""
    # Whoever has a table has imported pandas.
    pandas = sys.modules.get("pandas")
    return isinstance(value, np.ndarray) or (
        pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series)
    )


def outline(nest: Any) -> Any:
    """The nest with tensors without memory in place of its arrays, by which its form is seen; the
    same object where it holds none."""
    return _mapped(nest, lambda array: torch.empty(array.shape, device="meta"))


def batches_of(source: Any, numbers: Numbers) -> Any:
    """A data set of single samples as batches; anything else as it is."""
    if not isinstance(source, Dataset) or isinstance(source, IterableDataset):
        return source
    # One of a class of its own may make something else of them.
    if type(source) is TensorDataset:
        return source.tensors
    if not hasattr(source, "__len__"):
        raise HesseTypeError(
            f"data: this {type(source).__name__} has no length; give it a __len__, or pass a"
            " re-iterable of batches (a DataLoader)"
        )
    return DataLoader(source, batch_size=_TOGETHER, collate_fn=numbers.collate)


# ---------------------------------------------------------------- arrays


def _require_numbers(array: np.ndarray) -> None:
    kind = array.dtype.kind
    if kind not in "fciub":
        what = "objects (text, None, or rows of unequal lengths)" if kind == "O" else array.dtype
        raise HesseTypeError(
            f"data: an array of shape {array.shape} holds {what}; expected numbers, the same count"
            " in every row"
        )
    if isinstance(array, np.ma.MaskedArray) and array.mask.any():
        raise HesseValueError(
            f"data: {int(array.mask.sum())} entries of an array of shape {array.shape} are masked;"
            " fill them, or leave those samples out"
        )
    if kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise HesseValueError(f"data: {array.max()} is too large for int64")


def _numpy(dtype: torch.dtype) -> np.dtype:
    return np.dtype(str(dtype).removeprefix("torch."))


# ---------------------------------------------------------------- tables


def _of_pandas(given: Any, real: torch.dtype, whole: torch.dtype | None) -> np.ndarray:
    """A table as real numbers, column by column in its order; a column as a vector."""
    is_table = given.ndim == 2
    columns = given.items() if is_table else [(given.name, given)]
    kinds = {_kind_of(name, column) for name, column in columns}
    is_real = is_table or "f" in kinds
    return given.to_numpy(dtype=_numpy(real if is_real else whole or torch.int64), copy=True)


def _kind_of(name: Any, column: Any) -> str:
    """The kind of a column's numbers, as NumPy writes it: ``f``, or ``i`` of whole ones.

    Raises:
        HesseTypeError: it holds something else.
        HesseValueError: some are missing, or infinite.
    """
    # Imported here, and there already: this column is of it.
    from pandas.api import types

    called = "an unnamed column" if name is None else f"column {name!r}"
    # Numbers in a column of objects are refused too: it holds what its rows happen to be.
    if not types.is_numeric_dtype(column.dtype) or types.is_complex_dtype(column.dtype):
        ways = (
            "its codes, .cat.codes"
            if str(column.dtype) == "category"
            else "convert it, as with pandas.to_numeric or pandas.get_dummies"
        )
        raise HesseTypeError(
            f"data: {called} is of {column.dtype}; expected real numbers: {ways}, or leave it out"
        )
    missing = int(column.isna().sum())
    if missing:
        raise HesseValueError(
            f"data: {called} has {missing} missing value{'s' * (missing != 1)}; fill them, or leave"
            " those rows out, .dropna()"
        )
    if not types.is_float_dtype(column.dtype):
        return "i"
    infinite = int(np.isinf(column.to_numpy(dtype=float)).sum())
    if infinite:
        raise HesseValueError(
            f"data: {called} has {infinite} infinite value{'s' * (infinite != 1)}; leave those rows"
            " out"
        )
    return "f"


def _require_same_rows(parts: Any) -> None:
    """Tables side by side have the same labels of rows: pandas aligns by them, a cost goes by
    place."""
    tables = [part for part in parts if is_array(part) and not isinstance(part, np.ndarray)]
    for table in tables[1:]:
        if len(table) == len(tables[0]) and not table.index.equals(tables[0].index):
            raise HesseValueError(
                "data: the rows of the inputs and of the targets have other labels (.index); bring"
                " them in one order, y.loc[X.index], or give y.to_numpy() where they fit by place"
            )


# ---------------------------------------------------------------- nests


def _mapped(nest: Any, function: Callable[[Any], Tensor]) -> Any:
    if is_array(nest):
        return function(nest)
    if isinstance(nest, Mapping):
        parts = {key: _mapped(value, function) for key, value in nest.items()}
        return nest if all(parts[key] is nest[key] for key in parts) else parts
    if isinstance(nest, tuple | list):
        parts = [_mapped(part, function) for part in nest]
        return nest if all(map(_is, parts, nest)) else _rebuilt(nest, parts)
    return nest


def _is(a: Any, b: Any) -> bool:
    return a is b


def _rebuilt(nest: Any, parts: list[Any]) -> Any:
    return type(nest)(*parts) if hasattr(nest, "_fields") else type(nest)(parts)
