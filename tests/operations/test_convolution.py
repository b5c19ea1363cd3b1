"""What a convolution sees, whichever way it is laid out."""

import pytest
import torch
import torch.nn.functional as F

from hesse.operations.convolution import _windows

# Images, window, and stride, padding and dilation: rows of few places, and of many.
CASES = [
    ((4, 2, 9), (3,), (1, 2, 2)),
    ((3, 2, 40), (3,), (1, 1, 1)),
    ((5, 3, 6, 7), (3, 2), ((2, 1), (1, 0), (1, 2))),
    ((2, 2, 5, 24), (2, 3), (1, 0, 1)),
    ((3, 4, 6, 6), (1, 1), (2, 0, 1)),
    ((2, 2, 4, 5, 3), (2, 3, 2), ((1, 2, 1), (1, 1, 0), 1)),
]
CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "window", "options"), CASES)
def test_windows_are_what_kernels_of_a_single_one_give(
    shape: tuple[int, ...], window: tuple[int, ...], options: tuple, dtype: torch.dtype
) -> None:
    images = torch.randn(shape, dtype=dtype)
    stride, padding, dilation = options
    size = shape[1] * torch.Size(window).numel()
    ones = torch.eye(size, dtype=dtype).reshape(size, shape[1], *window)
    expected = CONVOLUTIONS[len(shape)](
        images, ones, stride=stride, padding=padding, dilation=dilation
    )
    seen = _windows(images, window, dilation, padding, stride)
    assert torch.equal(seen, expected.flatten(2))
