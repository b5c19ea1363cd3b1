"""What else the outcome of a trial depends on, besides what is tried: a failure is kept for the
circumstances that it was met in, and no others."""

from collections.abc import Hashable

import torch

from hesse.errors import HesseDistributedError, HesseError

# A thread that cannot be started has no room for its stack.
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "can't start new thread",
)


def circumstances() -> Hashable:
    """The settings of the process that the user's code reads, and that PyTorch's operations go by.

    Examples:
        >>> circumstances() == circumstances()
        True
    """
    return (
        torch.get_default_dtype(),
        str(torch.get_default_device()),
        torch.are_deterministic_algorithms_enabled(),
    )


def is_passing(error: BaseException) -> bool:
    """Whether an error says nothing of what was tried: memory did not suffice, or Ctrl-C came,
    which may end in another error where PyTorch cleans up."""
    return is_out_of_memory(error) or is_interrupted(error)


def is_of_strategy(error: BaseException) -> bool:
    """Whether an error on the way says that an operation is not known to a strategy, so that
    another one may do: not where it is hesse's own, or passing."""
    if isinstance(error, HesseDistributedError):
        return error.of_strategy
    return not isinstance(error, HesseError) and not is_passing(error)


def is_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is at the bottom of an error.

    Examples:
        >>> error = RuntimeError("pop from an empty stack")
        >>> error.__context__ = KeyboardInterrupt()
        >>> is_interrupted(error)
        True
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, which is nothing to be kept: on the CPU
    PyTorch says it by a RuntimeError.

    Examples:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
        True
    """
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)
    )
