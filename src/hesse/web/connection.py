"""Connections that end where a client is slow, and no more of them than the system has room for."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS = 10.0  # that a client may take to send a request, or to take what is sent
# Of the 256 open files that macOS gives a process; each answer takes a few beside.
MOST = 200


class Connection(H11Protocol):
    """One connection; it is dropped where a request is not all there, or a full buffer is not
    taken, `SECONDS` after it was due, and at once where there are `MOST` already."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.abort()
        self._wait(True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(False)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Once for a request, however often a part of it arrives.
        self._wait(self.conn.their_state in (h11.IDLE, h11.SEND_BODY))

    def pause_writing(self) -> None:
        super().pause_writing()  # pyright: ignore[reportAttributeAccessIssue]
        self._wait(True)

    def resume_writing(self) -> None:
        super().resume_writing()  # pyright: ignore[reportAttributeAccessIssue]
        self._wait(False)

    def _wait(self, waits: bool) -> None:
        if waits and self._due is None:
            self._due = self.loop.call_later(SECONDS, self.transport.abort)
        elif not waits and self._due is not None:
            self._due.cancel()
            self._due = None
