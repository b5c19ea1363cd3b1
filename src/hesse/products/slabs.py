"""How many products go side by side: a slab of them."""

import torch

# What a processor's caches hold: with fewer columns at once starting the work takes longer, with
# more they fall out of the caches, and no sooner where freed memory is kept
# (`hesse.process.memory.keep_freed`). A GPU is the faster the more it is given at once, until
# starting the work takes nothing of the time.
CACHES = 32 * 1024**2
_FILLED = 1024**3
# What products side by side take, in units of their tensors: they are of many sizes, and the
# system's allocator keeps holes between them; as measured (bench.memory, the transformer).
HOLES_OF_A_SLAB = 4


def slab_bytes(device: torch.device) -> int:
    """What products that go side by side work in: what a processor's caches hold, or what fills a
    GPU."""
    return _FILLED if device.type == "cuda" else CACHES


def in_a_slab(workspace: float, device: torch.device) -> int:
    """How many products go side by side, each in so many bytes."""
    return max(1, int(slab_bytes(device) / max(1, workspace)))
