"""Products of matrices in memory whose rows begin where a cache line does.

A processor stores a vector that lies across two cache lines in twice the time, and a product whose
rows are of an odd length does so in nearly every row: it takes 1.3 to 1.5 times as long as one with
some numbers to spare behind each row. The blocks of a Hessian are of any length, so that large
products are made beside them, and added.
"""

from torch import Tensor

from hesse.process.memory import CACHE_LINE

# Shorter rows would be padding for a good part.
_LEAST_LINES = 4
# Numbers of a product that are made at a time, few enough to stay in a cache until they are added,
# and in how many rows at least: for fewer the other factor is laid out anew too often.
_AT_ONCE, _LEAST_ROWS = 2**19, 512


def aligned(rows: int, columns: int, like: Tensor) -> Tensor:
    """(rows, columns) of memory that holds nothing yet, each row at the beginning of a cache line;
    short ones as they come.

    Examples:
        >>> import torch
        >>> aligned(2, 70, torch.zeros(0)).stride(0), aligned(2, 3, torch.zeros(0)).stride(0)
        (80, 3)
    """
    line = CACHE_LINE // like.element_size()
    if columns < _LEAST_LINES * line:
        return like.new_empty(rows, columns)
    return like.new_empty(rows, -(-columns // line) * line)[:, :columns]


def add_product(matrix: Tensor, left: Tensor, right: Tensor, times: float = 1) -> None:
    """Add a multiple of left @ right to a matrix: at once on a GPU and where its rows begin at
    cache lines, else some entries at a time."""
    if matrix.device.type != "cpu" or _is_aligned(matrix) or not matrix.numel():
        matrix.addmm_(left, right, alpha=times)
        return
    width = min(matrix.shape[1], _AT_ONCE // min(len(matrix), _LEAST_ROWS))
    step = min(len(matrix), _AT_ONCE // width)
    made = aligned(step, width, matrix)
    for start in range(0, matrix.shape[1], width):
        columns = slice(start, start + width)
        for low in range(0, len(matrix), step):
            part = matrix[low : low + step, columns]
            product = made[: part.shape[0], : part.shape[1]]
            product.addmm_(left[low : low + step], right[:, columns], beta=0)
            part.add_(product, alpha=times)


def _is_aligned(matrix: Tensor) -> bool:
    """Whether each row begins where a cache line does."""
    lines = matrix.data_ptr(), matrix.stride(0) * matrix.element_size()
    return matrix.stride(1) == 1 and not any(place % CACHE_LINE for place in lines)
