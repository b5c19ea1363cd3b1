"""Work on a GPU whose operations are started all at once: captured as a CUDA graph, and replayed.
Starting them one by one takes a GPU longer than doing them, but for large networks."""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any, final

import torch

from hesse.derivatives import Tensors


@final
class Replay:
    """Some work with tensors of the shapes, types and place of those that it is captured with. What
    else it reads must stay where it is. Calls follow one another, in whatever threads and streams;
    what they return is new memory.

    Args:
        run: the work; it waits for no number to come back from the GPU.
        example: tensors to capture it with.

    Attributes:
        bytes: what is held for it, beside a workspace that it shares with all others of its GPU.

    Raises:
        RuntimeError: it cannot be captured.
    """

    def __init__(self, run: Callable[[Tensors], Tensors], example: Tensors) -> None:
        self._place = _place(example[0].device)
        self._given = [part.clone() for part in example]
        self._graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(example[0].device)
        with self._place.lock:
            # What libraries set up when a stream first sees them cannot be captured.
            stream.wait_stream(torch.cuda.current_stream(stream.device))
            with torch.cuda.stream(stream):
                run(self._given)
            # A workspace that a capture failed in takes no other.
            pool, self._place.pool = self._place.pool, None
            with torch.cuda.graph(self._graph, pool, stream, capture_error_mode="thread_local"):
                self._found = run(self._given)
            self._place.pool = self._graph.pool()
        self.bytes = sum(part.nbytes for part in (*self._given, *self._found))

    def __call__(self, given: Tensors) -> Tensors:
        with self._place.lock:
            stream = torch.cuda.current_stream(given[0].device)
            # What another call of any of them, in another stream, has not read yet.
            stream.wait_event(self._place.read)
            for held, part in zip(self._given, given, strict=True):
                held.copy_(part)
            self._graph.replay()
            found = [part.clone() for part in self._found]
            self._place.read.record(stream)
        return found


class _Place:
    """What all that is replayed on a GPU has in common: one of them runs at a time, in one
    workspace."""

    def __init__(self, device: torch.device) -> None:
        with torch.cuda.device(device):
            self.lock, self.read = threading.Lock(), torch.cuda.Event()
        self.pool: Any = None


_place = cache(_Place)
