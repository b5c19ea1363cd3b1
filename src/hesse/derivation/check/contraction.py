"""Products of small arrays with named axes, summed over some of them."""

from itertools import chain
from math import prod

import opt_einsum
from torch import Tensor

from hesse.derivation.calculus.expression import Index

# Arrays, each with the indices of its axes: one may stand twice.
Operands = list[tuple[Tensor, tuple[Index, ...]]]

# Terms of a sum that are made one by one: finding a better order takes longer.
_FEW_TERMS = 2**12
_FEW_OPERANDS = 4  # of which the best order is found in no time


def contracted(operands: Operands, free: tuple[Index, ...]) -> Tensor:
    """The product, with an axis for each free index, summed over all others."""
    operands = _multiplied(operands)
    sizes = {i: n for array, axes in operands for i, n in zip(axes, array.shape, strict=True)}
    axes_differ = all(len(set(axes)) == len(axes) for axes in (free, *(a for _, a in operands)))
    if axes_differ and prod(sizes.values()) <= _FEW_TERMS:
        return _term_by_term(operands, free, sizes)
    order = "auto" if len(operands) <= _FEW_OPERANDS else "greedy"
    return opt_einsum.contract(*chain.from_iterable(operands), free, optimize=order)


def _multiplied(operands: Operands) -> Operands:
    """Factors of the same axes as one, as most of many are."""
    products: dict[tuple[Index, ...], Tensor] = {}
    for array, axes in operands:
        products[axes] = products[axes] * array if axes in products else array
    return [(array, axes) for axes, array in products.items()]


def _term_by_term(operands: Operands, free: tuple[Index, ...], sizes: dict[Index, int]) -> Tensor:
    """Every array along all axes, so that they are multiplied entry by entry."""
    order = (*free, *(index for index in sizes if index not in free))
    result = None
    for array, axes in operands:
        places = [axes.index(index) for index in order if index in axes]
        shape = [sizes[index] if index in axes else 1 for index in order]
        along = array.permute(places).reshape(shape)
        result = along if result is None else result * along
    assert result is not None
    summed = tuple(range(len(free), len(order)))
    return result.sum(summed) if summed else result
