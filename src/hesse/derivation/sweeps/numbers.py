"""Small arrays on one line."""

import math

from torch import Tensor


def line_of_numbers(value: Tensor, most: int, digits: int = 4) -> str:
    """An array with its numbers; one of more than ``most`` by its shape and norm.

    Examples:
        >>> import torch
        >>> line_of_numbers(torch.tensor([0.5, -0.25]), 4)
        '(0.5, −0.25)'
        >>> line_of_numbers(torch.tensor([[1.0, 2.0], [0.0, 1e-9]]), 4)
        '[1 2; 0 1e−09]'
        >>> line_of_numbers(torch.ones(3, 4), 4)
        '3 × 4, norm 3.464'
    """
    if value.ndim == 0:
        return _number(float(value), digits)
    if value.numel() > most or value.ndim > 2:
        shape = " × ".join(map(str, value.shape))
        entries = " entries" if value.ndim == 1 else ""
        return f"{shape}{entries}, norm {_number(float(value.norm()), digits)}"
    if value.ndim == 1:
        return f"({', '.join(_number(x, digits) for x in value.tolist())})"
    rows = (" ".join(_number(x, digits) for x in row) for row in value.tolist())
    return f"[{'; '.join(rows)}]"


def _number(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return str(value)
    return f"{value + 0.0:.{digits}g}".replace("-", "−")
