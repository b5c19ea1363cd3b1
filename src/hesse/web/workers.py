"""Processes that answer one question each, within a time and a memory limit."""

import json
import math
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from hesse.errors import HesseError, in_a_line, readable_bytes

# An answer is made by a function of this package, called with what the page sent.
Answer = Callable[[Mapping[str, str]], dict[str, Any]]


class TooMuch(Exception):
    """A question that took longer, or more memory, than one may."""


@dataclass
class Workers:
    """Answers questions, as many at once as there are cores; the others wait for their turn.

    Each answer is made in a process of its own, forked from one in which hesse is loaded: what
    takes too long is killed, what takes too much memory is refused it, and neither touches the
    others.

    Attributes:
        seconds: that one answer may take, once it is its turn.
        memory: bytes that it may take beyond what hesse itself takes.
        patience: seconds that a question waits for its turn.
    """

    seconds: float = 20.0
    memory: int = 2 << 30
    patience: float = 120.0
    at_once: int = field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        # Where processes cannot be forked each of them loads hesse anew.
        if "forkserver" in multiprocessing.get_all_start_methods():
            self._context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload(["hesse.web.warm"])
        else:
            self._context = multiprocessing.get_context("spawn")
        self._turns = threading.BoundedSemaphore(self.at_once)
        self._running: set[BaseProcess] = set()
        self._closed = False

    def warm(self) -> None:
        """Load hesse into the process that others are forked from, which takes some seconds."""
        self._answer(_nothing, {}, seconds=None)

    def close(self) -> None:
        """Stop what is being answered, and answer no more."""
        self._closed = True
        for process in tuple(self._running):
            process.kill()

    def answer(self, how: Answer, said: Mapping[str, str]) -> dict[str, Any]:
        """What ``how(said)`` gives, from another process; its HesseError as ``{"error": text}``.

        Raises:
            TooMuch: the limits were exceeded, or the turn did not come.
        """
        if not self._turns.acquire(timeout=self.patience):
            raise TooMuch("others are being answered; ask again in a minute")
        try:
            if self._closed:
                raise TooMuch("the server has ended")
            return self._answer(how, said, self.seconds)
        finally:
            self._turns.release()

    def _answer(
        self, how: Answer, said: Mapping[str, str], seconds: float | None
    ) -> dict[str, Any]:
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_work, args=(there, how, dict(said), self.memory, seconds), daemon=True
        )
        process.start()
        self._running.add(process)
        there.close()
        try:
            if not here.poll(seconds):
                raise TooMuch(
                    f"this took longer than {seconds:g} s and was stopped; ask for less: fewer"
                    " parameters, or a shorter cost"
                )
            # Text, and not an object: what comes from there is not executed.
            return json.loads(here.recv_bytes())
        except (EOFError, OSError):
            raise TooMuch(
                "the process that answers ended; it may have needed more than"
                f" {readable_bytes(self.memory)} of memory"
            ) from None
        finally:
            here.close()
            process.kill()
            process.join()
            self._running.discard(process)
            process.close()


def _nothing(said: Mapping[str, str]) -> dict[str, Any]:
    return {}


def _work(
    there: Connection, how: Answer, said: Mapping[str, str], memory: int, seconds: float | None
) -> None:
    _limit(memory, seconds)
    # What is printed on the way is for nobody.
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        found = how(said)
    except HesseError as error:
        found = {"error": str(error)}
    except MemoryError:
        found = {"error": f"this needs more than {readable_bytes(memory)} of memory"}
    except Exception as error:  # a fault of hesse's, said as one
        found = {"error": f"hesse itself failed at this ({in_a_line(error)}); please report it"}
    there.send_bytes(json.dumps(found, allow_nan=False).encode())


def _limit(memory: int, seconds: float | None) -> None:
    try:
        import resource
    except ImportError:  # Windows, where nothing but the server limits them, by time
        return
    if seconds is not None:
        # It ends by itself where the server was killed and cannot end it.
        most = math.ceil(seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    taken = _address_space()
    if taken is not None:
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))


def _address_space() -> int | None:
    """Bytes of addresses that the process has; None where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
