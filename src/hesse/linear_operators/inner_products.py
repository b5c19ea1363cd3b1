"""Inner products and lengths of long vectors.

A processor's sum of ten million numbers in their own dtype, as a product of matrices and a norm
take it, is off in the third digit in float32: what is added is small beside the sum. Parts of it
are summed up in float64 here.
"""

import math

import torch
from torch import Tensor

# Entries that are summed in their own dtype: the sum is right to some of its roundings; and that
# are converted to float64 at a time, to stay in the cache.
_PART, _CONVERTED = 2**15, 2**18


def inner_products(x: Tensor, rows: Tensor) -> Tensor:
    """x rowsᵀ in float64: (*K, P) and (n, P) -> (*K, n).

    Examples:
        >>> import torch
        >>> inner_products(torch.full((2,), 3.0), torch.ones(1, 2))
        tensor([6.], dtype=torch.float64)
    """
    size = rows.shape[1]
    # A GPU sums in a tree, which is as good.
    part = _PART if x.device.type == "cpu" else max(1, size)
    total = torch.zeros(*x.shape[:-1], len(rows), dtype=torch.float64, device=x.device)
    for start in range(0, size, part):
        total += x[..., start : start + part] @ rows[:, start : start + part].T
    return total


def inner_product(x: Tensor, y: Tensor) -> float:
    """xᵀ y of two vectors."""
    return float(inner_products(x, y[None])[0])


def sum_of_squares(x: Tensor) -> float:
    """Σ x² over all entries. PyTorch's norm in another dtype takes ten times as long."""
    flat, total = x.reshape(-1), 0.0
    for piece in flat.split(_CONVERTED if x.device.type == "cpu" else max(1, len(flat))):
        wide = piece.double()
        total += float(wide @ wide)
    return total


def length(x: Tensor) -> float:
    """‖x‖ of a vector.

    Examples:
        >>> import torch
        >>> length(torch.tensor([3.0, 4.0]))
        5.0
    """
    return math.sqrt(sum_of_squares(x))
