"""The process's generators of random numbers: what a user's code draws from them does not show
outside.

Where a model, a loss or a data set draws, it has a stream of its own: it goes on where it stopped,
so that what is random stays random and can be refused, and the generators of the caller stand where
they stood. They are the process's. While such code runs another thread that draws from them draws
from the stream; two costs that draw take turns.
"""

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from hesse.process.undo import undone

# Held while a stream is in the place of the process's generators.
_TURN = threading.RLock()


class States(NamedTuple):
    """Those of PyTorch's default generators, on the CPU and, where CUDA runs, on each of its
    devices; of NumPy's and Python's; and of one generator more, a loader's own."""

    cpu: Tensor
    cuda: list[Tensor]
    numpy: Any
    python: Any
    other: Tensor | None

    @staticmethod
    def read(generator: torch.Generator | None = None) -> "States":
        """As they are now."""
        return States(
            torch.get_rng_state(),
            torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            np.random.get_state(),
            random.getstate(),
            None if generator is None else generator.get_state(),
        )

    def write(self, generator: torch.Generator | None = None) -> None:
        """Put the generators there."""
        torch.set_rng_state(self.cpu)
        if self.cuda and torch.cuda.is_initialized():
            torch.cuda.set_rng_state_all(self.cuda)
        np.random.set_state(self.numpy)
        random.setstate(self.python)
        if generator is not None and self.other is not None:
            generator.set_state(self.other)

    def same_as(self, other: "States") -> bool:
        """Whether nothing was drawn between the two."""
        return (
            torch.equal(self.cpu, other.cpu)
            and all(map(torch.equal, self.cuda, other.cuda))
            and self.python == other.python
            and all(map(np.array_equal, self.numpy, other.numpy))
        )


@final
class RandomStream:
    """The random numbers of one piece of the user's code.

    Args:
        start: where it begins; ``None`` for code that was not seen to draw, which has none.
        generator: one that the code draws from beside the process's.

    Examples:
        >>> import torch
        >>> stream, before = RandomStream(), torch.get_rng_state()
        >>> with stream.watched():
        ...     first = torch.rand(1)
        >>> with stream.drawing():
        ...     second = torch.rand(1)
        >>> torch.equal(torch.get_rng_state(), before), bool(first == second)
        (True, False)
    """

    def __init__(
        self, start: States | None = None, generator: torch.Generator | None = None
    ) -> None:
        self._state, self._generator, self._entered = start, generator, False

    @property
    def draws(self) -> bool:
        """Whether the code draws."""
        return self._state is not None

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Run the code and see whether it draws."""
        if self._entered:  # on its own stream already
            yield
            return
        before = States.read(self._generator)
        try:
            yield
        finally:
            after = States.read(self._generator)
            if not before.same_as(after):
                self._state = after
                before.write(self._generator)

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Run the code on its own stream, if it has one."""
        if self._state is None:
            yield
            return
        with _TURN:
            if self._entered:
                yield
                return
            outside = States.read(self._generator)
            with undone(lambda: self._leave(outside)):
                self._entered = True
                self._state.write(self._generator)
                yield

    def _leave(self, outside: States) -> None:
        if self._entered:
            self._state = States.read(self._generator)
            self._entered = False
        outside.write(self._generator)
