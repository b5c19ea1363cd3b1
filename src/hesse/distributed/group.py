"""The group of processes: joined where `torchrun` started this one, and what its ranks tell one
another.

Every rank makes the same calls in the same order. Whatever a rank does by itself, the others learn
how it ended before they go on: with a few numbers each, by which an error of one becomes an error
of all, and ranks that came to different places are told so, before any of them waits for a sum that
will not come. These numbers go by gloo, in a group of hesse's own, whatever the user's goes by.

Alone, each of the functions here does what it is given, and nothing else.
"""

import atexit
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from hesse.errors import HesseDistributedError, in_a_line
from hesse.process.circumstances import is_of_strategy

T = TypeVar("T")
# What torchrun tells a process, and a batch system can.
_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# How something ended on a rank.
_WELL, _OTHERWISE, _FAILED = 0.0, 1.0, 2.0
# Numbers beside which those of other ranks are equal, up to rounding on another kind of machine.
_NEARLY = 1e-5
# Tensors of fewer entries are joined before they are sent.
_SMALL = 2**20


@final
class Group:
    """The ranks that work together.

    Attributes:
        rank: that of this process.
        size: how many there are.
        here: how many of them share this machine.
        free: bytes that every one of them has at least to work in; ``None`` until they agreed.
    """

    def __init__(self, world: Any) -> None:
        self.world = world
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.here = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", self.size)))
        self.free: int | None = None
        self._ours = dist.new_group(backend="gloo")
        self._queues = 0

    def together(self, what: str, do: Callable[[], T], mark: float = 0.0) -> tuple[T, int]:
        """Do something on every rank, and tell the others how it ended.

        Args:
            what: what it is.
            do: it.
            mark: a number that is the same on all ranks where they do the same.

        Returns:
            What it gave, and of a list how long that of every rank is at least.
        """
        value, error = cast(T, None), None
        try:
            value = do()
        except Exception as raised:
            error = raised
        count = len(value) if isinstance(value, list) else 0
        ended = _WELL if error is None else _OTHERWISE if is_of_strategy(error) else _FAILED
        mine = torch.tensor([ended, float(zlib.crc32(what.encode())), mark, float(count)]).double()
        every = [torch.empty_like(mine) for _ in range(self.size)]
        self._call(lambda: dist.all_gather(every, mine, group=self._ours))
        numbers = torch.stack(every)
        worst = float(numbers[:, 0].max())
        if worst != _WELL:
            self._raise(error, int(numbers[:, 0].argmax()), worst == _OTHERWISE)
        marks = numbers[:, 2]
        near = torch.isclose(marks, marks[:1], rtol=_NEARLY, atol=_NEARLY, equal_nan=True)
        if bool((numbers[:, 1] != numbers[0, 1]).any()) or not bool(near.all()):
            others = self.objects(what)
            raise HesseDistributedError(
                "distributed: the ranks do different things, where each has to make the same calls"
                f" with the same values: {_listed(others)}. Is something random, or asked for on"
                " one rank only? What one rank does by itself goes inside 'with hesse.alone():'"
            )
        return value, int(numbers[:, 3].min())

    def _raise(self, error: Exception | None, rank: int, otherwise: bool) -> None:
        """Raise this rank's own error, or that of another rank."""
        texts = self.objects(None if error is None else in_a_line(error))
        if error is not None and is_of_strategy(error) == otherwise:
            raise error
        raised = HesseDistributedError(f"rank {rank} failed: {texts[rank]}")
        raised.of_strategy = otherwise
        raise raised from error

    def objects(self, value: Any) -> list[Any]:
        """What every rank has, by rank; little, for it is pickled."""
        every = [None] * self.size
        self._call(lambda: dist.all_gather_object(every, value, group=self._ours))
        return every

    def add_up(
        self, what: str, do: Callable[[], list[Tensor]], of: Sequence[Tensor]
    ) -> list[Tensor]:
        """What `summed` says."""
        made, count = self.together(what, do, _mark(of))
        large = [part for part in made[:count] if part.numel() >= _SMALL and part.is_contiguous()]
        small = [part for part in made[:count] if not any(part is other for other in large)]
        for part in large:
            self._reduce(part)
        for kind in dict.fromkeys(part.dtype for part in small):
            parts = [part for part in small if part.dtype == kind]
            with _disable_current_modes(), torch.no_grad():
                joined = torch.cat([part.reshape(-1) for part in parts])
                self._reduce(joined)
                pieces = joined.split([part.numel() for part in parts])
                for part, piece in zip(parts, pieces, strict=True):
                    part.copy_(piece.view(part.shape))
        return made[:count]

    def _reduce(self, part: Tensor) -> None:
        if part.device.type == "cpu":
            self._call(lambda: dist.all_reduce(part, group=self._ours))
        elif "nccl" in dist.get_backend_config(self.world):
            self._call(lambda: dist.all_reduce(part, group=self.world))
        else:
            there = part.cpu()
            self._call(lambda: dist.all_reduce(there, group=self._ours))
            part.copy_(there)

    def _call(self, do: Callable[[], object]) -> None:
        """Speak to the others; nothing that hesse has switched on for its own work sees it."""
        try:
            with _disable_current_modes(), torch.no_grad():
                do()
        except RuntimeError as error:
            raise HesseDistributedError(
                "distributed: another rank ended, cannot be reached, or has not come so far in the"
                f" time that the group gives it ({in_a_line(error)}). Its own output says why;"
                " every rank has to make the same calls, and what one does by itself goes inside"
                " 'with hesse.alone():'"
            ) from error

    def queue(self) -> Callable[[], int]:
        """A function that counts up from zero, over all ranks: each number is given once. Made on
        every rank at the same place."""
        self._queues += 1
        key, store = f"hesse/queue/{self._queues}", dist.distributed_c10d._get_default_store()

        def next_place() -> int:
            place = 0

            def add() -> None:
                nonlocal place
                place = store.add(key, 1) - 1

            self._call(add)
            return place

        return next_place


_ALONE: ContextVar[bool] = ContextVar("alone", default=False)
_known: Group | None = None


def joined() -> Group | None:
    """The group that this process is in, joined now where it was started for one; ``None`` where it
    works by itself."""
    return None if _ALONE.get() else started()


def started() -> Group | None:
    """The same, also of a process that works by itself for the moment."""
    global _known
    if not dist.is_available():
        return None
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) < 2 or not all(
            name in os.environ for name in _ENVIRONMENT
        ):
            return None
        _join()
    if dist.get_world_size() < 2:
        return None
    if _known is None or _known.world is not dist.group.WORLD:
        _known = Group(dist.group.WORLD)
    return _known


def _join() -> None:
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        raise HesseDistributedError(
            f"distributed: the group of {os.environ['WORLD_SIZE']} processes that torchrun's"
            f" environment variables speak of cannot be joined ({in_a_line(error)})"
        ) from error
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def current() -> Group | None:
    """The group, where it is joined already; asking it waits for nobody."""
    if _ALONE.get() or _known is None or not dist.is_initialized():
        return None
    return _known if _known.world is dist.group.WORLD else None


@contextmanager
def alone() -> Iterator[None]:
    """What this process asks for meanwhile it does by itself, with all of the data, as without
    `torchrun`: a rank that wants something for itself must not wait for the others.

    Examples:
        >>> import hesse
        >>> with hesse.alone():
        ...     pass
    """
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def is_first() -> bool:
    """Whether this process is the one of its group that prints and writes, or in none."""
    return (group := current()) is None or group.rank == 0


def processes() -> int:
    """How many work together."""
    return 1 if (group := joined()) is None else group.size


def together(what: str, do: Callable[[], T]) -> T:
    """Do something on every rank. None goes on before all have done it.

    Args:
        what: what it is; ranks that come to different things are told so.
        do: it.

    Raises:
        HesseDistributedError: it failed on another rank, or another rank is gone.
    """
    return do() if (group := joined()) is None else group.together(what, do)[0]


def gathered(what: str, do: Callable[[], T]) -> list[T]:
    """What something gives on every rank, by rank; little, for it is pickled."""
    group = joined()
    return [do()] if group is None else group.objects(group.together(what, do)[0])


def of_first(what: str, do: Callable[[], T]) -> T:
    """What something gives on rank 0, done there alone, for all."""
    group = joined()
    if group is None:
        return do()
    return gathered(what, lambda: do() if group.rank == 0 else cast(T, None))[0]


def summed(what: str, do: Callable[[], list[Tensor]], of: Sequence[Tensor] = ()) -> list[Tensor]:
    """The sums over all ranks of the tensors that something gives on each, in their place; of the
    first ones that all ranks made, where some made more. **The one place where a sum over data
    becomes a sum over ranks.**

    Args:
        what: what it is.
        do: makes new tensors.
        of: what they are made of beside the data, such as v of H v: the same on all ranks.

    Raises:
        HesseDistributedError: another rank failed, is gone, or has other values.
    """
    return do() if (group := joined()) is None else group.add_up(what, do, of)


def _mark(tensors: Sequence[Tensor]) -> float:
    """A number that tells tensors from others."""
    total = 0.0
    with _disable_current_modes(), torch.no_grad():
        for place, tensor in enumerate(tensors):
            flat = tensor.detach().reshape(-1)
            if not len(flat):
                continue
            size = min(len(flat), _SMALL)
            weights = torch.rand(size, generator=torch.Generator().manual_seed(place), device="cpu")
            weights = weights.to(flat.device, torch.float64)
            for low in range(0, len(flat), size):
                part = flat[low : low + size]
                total += float(part.double() @ weights[: len(part)]) * (1 + low / len(flat))
    return total


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"rank {rank} {name}" for rank, name in enumerate(names))
