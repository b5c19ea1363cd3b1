"""What a convolution takes as long as, in operations of one with full channels."""

import pytest
import torch

from hesse.process.rehearsal import Rehearsal

aten = torch.ops.aten


@pytest.mark.parametrize(
    ("dtype", "made", "stride", "there", "to_image", "to_kernel"),
    [
        # Of eight channels made at once all are asked for; of them one.
        (torch.float32, 8, 1, 1, 2, 1),
        (torch.float32, 1, 1, 8, 2, 8),
        (torch.float32, 8, 2, 1, 4, 1),
        # Not by oneDNN.
        (torch.float64, 1, 2, 1, 1, 1),
    ],
)
def test_work(
    dtype: torch.dtype, made: int, stride: int, there: int, to_image: int, to_kernel: int
) -> None:
    """In units of what is multiplied."""
    image = torch.ones(2, 8, 6, 6, dtype=dtype)
    kernel = torch.ones(made, 8, 3, 3, dtype=dtype)
    options = (None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], 1)
    value = aten.convolution(image, kernel, *options)
    plain = 2 * value.numel() * kernel[0].numel()
    with Rehearsal() as forth:
        aten.convolution(image, kernel, *options)
    assert forth.price.operations == forth.price.convolved == there * plain
    for mask, times in (([True, False, False], to_image), ([False, True, False], to_kernel)):
        with Rehearsal() as back:
            aten.convolution_backward(value, image, kernel, *options, mask)
        assert back.price.convolved == times * plain
