"""How far a dtype's arithmetic is off on a device: on a GPU float32 may be TF32, which rounds what
it multiplies to ten bits."""

import torch

# TF32 keeps ten bits behind the point.
_TF32 = 2.0**-10


def products_in_tf32(device: torch.device) -> bool:
    """Whether matrix products of float32 are computed in TF32 there."""
    return device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"


def convolutions_in_tf32(device: torch.device) -> bool:
    """Whether convolutions of float32 are; PyTorch has that on unless it is switched off."""
    return device.type == "cuda" and bool(torch.backends.cudnn.allow_tf32)


def eps_of(dtype: torch.dtype, device: torch.device, convolution: bool = False) -> float:
    """The rounding of a number near 1.

    Examples:
        >>> import torch
        >>> eps_of(torch.float32, torch.device("cpu")) == torch.finfo(torch.float32).eps
        True
    """
    coarse = products_in_tf32(device) or (convolution and convolutions_in_tf32(device))
    eps = torch.finfo(dtype).eps
    return max(eps, _TF32) if coarse and dtype == torch.float32 else eps


def tf32_notes(dtype: torch.dtype, device: torch.device) -> tuple[str, ...]:
    """What a certificate says of it, for a float32 cost on a GPU."""
    if dtype != torch.float32 or device.type != "cuda":
        return ()
    products = "TF32 is on" if products_in_tf32(device) else "TF32 is off"
    convolutions = "on" if convolutions_in_tf32(device) else "off"
    return (
        (
            f"{products} for matrix products (torch.set_float32_matmul_precision) and"
            f" {convolutions} for convolutions (torch.backends.cudnn.allow_tf32)"
        ),
    )
