"""hesse's own work is the same whatever is switched on around the call: gradients are on, autocast
and inference mode are off."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Gradients enabled, autocast and inference mode off, for this thread; also a decorator.

    PyTorch picks the backward of some operations by the grad mode (`torch.linalg.det`): under
    ``no_grad`` nested differentiation gives other numbers, and wrong ones. Under autocast matrix
    products are rounded to half precision.

    Example:
        >>> import torch
        >>> with torch.no_grad(), undisturbed():
        ...     torch.is_grad_enabled()
        True
    """
    # Inference mode first: leaving it sets the grad mode too.
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
