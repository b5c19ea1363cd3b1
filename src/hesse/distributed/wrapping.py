"""Modules that PyTorch wraps for several processes: what of them a cost is of."""

import sys
from typing import Any

from torch import nn

from hesse.errors import HesseTypeError


def unwrapped(model: Any) -> Any:
    """Of a `DistributedDataParallel` the module in it, whose parameters lie whole on every rank and
    have their own names: hesse sums over ranks itself. Anything else as it is.

    Raises:
        HesseTypeError: the parameters are sharded over ranks, so that no rank has a gradient's
            graph to differentiate again.

    Examples:
        >>> from torch import nn
        >>> layer = nn.Linear(2, 1)
        >>> unwrapped(layer) is layer
        True
    """
    if isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    if isinstance(model, nn.Module) and (kind := _sharding(model)):
        raise HesseTypeError(
            f"model: its parameters are sharded over ranks ({kind}), which frees them after each"
            " use, and PyTorch then cannot differentiate a gradient again; give hesse the module"
            " itself with all of its parameters on every rank, as in DistributedDataParallel"
        )
    return model


def _sharding(model: nn.Module) -> str:
    """What shards a model's parameters; empty where nothing does."""
    # Who shards has loaded what does it; it takes long to load.
    fsdp, tensors = (sys.modules.get(f"torch.distributed.{name}") for name in ("fsdp", "tensor"))
    if fsdp is not None:
        sharded = fsdp.FullyShardedDataParallel, fsdp.FSDPModule
        if any(isinstance(module, sharded) for module in model.modules()):
            return "FSDP"
    if tensors is not None and any(isinstance(p, tensors.DTensor) for p in model.parameters()):
        return "DTensor"
    return ""
