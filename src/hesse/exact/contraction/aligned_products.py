"""Products of matrices in memory whose rows begin where a cache line does.

A processor stores a vector that lies across two cache lines in twice the time, and a product whose
rows are of an odd length does so in nearly every row: it takes 1.3 to 1.5 times as long as one with
some numbers to spare behind each row. The blocks of a Hessian are of any length, so that large
products are made beside them, and added.
"""

from torch import Tensor

# Bytes of a cache line, and of the vectors of any processor.
_LINE = 64
# Shorter rows would be padding for a good part.
_LEAST_LINES = 4
# Numbers of a product that are made at a time, few enough to stay in a cache until they are added.
_AT_ONCE = 2**19


def aligned(rows: int, columns: int, like: Tensor) -> Tensor:
    """(rows, columns) of memory that holds nothing yet, each row at the beginning of a cache line;
    short ones as they come.

    Examples:
        >>> import torch
        >>> aligned(2, 70, torch.zeros(0)).stride(0), aligned(2, 3, torch.zeros(0)).stride(0)
        (80, 3)
    """
    line = _LINE // like.element_size()
    if columns < _LEAST_LINES * line:
        return like.new_empty(rows, columns)
    return like.new_empty(rows, -(-columns // line) * line)[:, :columns]


def add_product(matrix: Tensor, left: Tensor, right: Tensor, times: float = 1) -> None:
    """Add a multiple of left @ right to a matrix, some rows at a time."""
    step = max(1, _AT_ONCE // max(1, matrix.shape[1]))
    made = aligned(min(step, len(matrix)), matrix.shape[1], matrix)
    for low in range(0, len(matrix), step):
        part = left[low : low + step]
        product = made[: len(part)]
        matrix[low : low + step].add_(product.addmm_(part, right, beta=0), alpha=times)
