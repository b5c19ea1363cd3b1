"""What a convolution takes beside what its shapes say, as PyTorch makes it on a processor."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

_FORTH, _BACK = torch.ops.aten.convolution, torch.ops.aten.convolution_backward
# oneDNN holds images with so many channels at a time, and makes so many at once, however few there
# are.
_HELD, _MADE = 16, 8
# The way back to an image takes it so long, in units of the way there; and so long where strides
# leave holes in what comes back.
_TO_IMAGE, _THROUGH_HOLES = 2, 4


def convolves(func: Any) -> bool:
    """Whether an operation is a convolution, or the way back through one."""
    return func.overloadpacket in (_FORTH, _BACK)


def work(func: Any) -> Callable[..., int]:
    """What a convolution takes as long as, in floating point operations of the way there with full
    channels; as measured."""
    return _forth if func.overloadpacket is _FORTH else _back


def _forth(image: Tensor, kernel: Tensor, *options: Any, out_val: Tensor, **named: Any) -> int:
    count = flop_registry[_FORTH](image, kernel, *options, **named, out_val=out_val)
    _, stride, _, _, transposed, _, groups = options
    if not _by_onednn(image):
        return count
    times = _times_to_image(stride) if transposed else 1
    return int(count * times * _filled(out_val.shape[1] // groups))


def _back(
    grad: Tensor, image: Tensor, kernel: Tensor, *options: Any, out_val: Any, **named: Any
) -> int:
    *others, mask = options
    total = 0.0
    for place, channels in enumerate((image.shape[1], grad.shape[1])):
        if not mask[place]:
            continue
        alone = [place == 0, place == 1, False]
        given = grad, image, kernel, *others, alone
        count = flop_registry[_BACK](*given, **named, out_val=out_val)
        _, stride, _, _, transposed, _, groups = others
        if _by_onednn(image):
            to_image = place == 0 and not transposed
            count *= _times_to_image(stride) if to_image else 1
            count *= _filled(channels // groups)
        total += count
    return int(total)


def _by_onednn(image: Tensor) -> bool:
    return image.dtype == torch.float32 and bool(torch.backends.mkldnn.enabled)


def _times_to_image(stride: Sequence[int]) -> int:
    return _TO_IMAGE if set(stride) == {1} else _THROUGH_HOLES


def _filled(channels: int) -> float:
    """How much is made for each channel that is asked for."""
    return -(-channels // _MADE) * _MADE / max(1, channels)


def laid_out(func: Any, args: Any, result: Any) -> int:
    """Bytes that a convolution, or the way back through one, takes beside what comes out."""
    back = func.overloadpacket is _BACK
    image = args[1] if back else args[0]
    value, kernel = (args[0], args[2]) if back else (result, args[1])
    if _by_onednn(image):
        return sum(map(_in_blocks, (image, value)))
    narrow, wide = (image, value) if args[7 if back else 6] else (value, image)
    return _windows(narrow, wide, kernel)


def _in_blocks(image: Tensor) -> int:
    """What oneDNN, for float32, makes of an image on one side of a convolution: another with its
    channels in blocks, or two as it is."""
    channels = image.shape[1]
    of_blocks = -(-channels // _HELD) * _HELD
    return image.nbytes // channels * max(of_blocks, 2 * channels) if channels else 0


def _windows(narrow: Tensor, wide: Tensor, kernel: Tensor) -> int:
    """What PyTorch's own convolutions make: all that each place of the one side sees of the other,
    (samples, channels · window, places)."""
    window = kernel.shape[2:].numel()
    places = narrow.numel() // narrow.shape[1]
    return places * window * wide.shape[1] * kernel.element_size() if window > 1 else 0
