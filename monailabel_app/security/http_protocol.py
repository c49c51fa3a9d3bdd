# SPDX-License-Identifier: Apache-2.0
"""uvicorn's HTTP/1.1 protocol with an end to every wait for a client."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from monailabel_app.security.connections import Connections, Phase, address_of_peer

MAX_HEAD_BYTES = 32 << 10
MAX_HEADERS = 100
_LOOK_EVERY_S = 1.0
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\n"
    b"Connection: close\r\n\r\n"
)
_ENDING = (
    "The server ends, and the request was not finished in time. Look whether it was done once the "
    "server is back, or send it again."
)


class BoundedHead(h11.Connection):
    """h11 bounds a header that comes in pieces only; this one bounds it in any case."""

    def next_event(self) -> Any:
        """As h11, but a header of too many fields or bytes is a fault of the client."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            size = sum(len(name) + len(value) for name, value in event.headers)
            if len(event.headers) > MAX_HEADERS or size + len(event.target) > MAX_HEAD_BYTES:
                raise h11.RemoteProtocolError("header too large", error_status_hint=431)
        return event


class GuardedProtocol(H11Protocol):
    """One connection; ``connections`` knows all of them and the limits."""

    def __init__(self, *args: Any, connections: Connections, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.conn = BoundedHead(h11.SERVER, MAX_HEAD_BYTES)
        self.address = ""
        self.phase = Phase.HEAD
        self.since_s = self.loop.time()
        self._all = connections
        self._limits = connections.limits
        self._received = 0
        self._ours_s = 0.0
        self._unread_since_s: float | None = None
        self._looking: asyncio.TimerHandle | None = None

    @property
    def is_known(self) -> bool:
        """Whether the client has logged in with the request that it is sending."""
        user = None if self.scope is None else self.scope.get("user")
        return bool(getattr(user, "is_authenticated", False))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection in, or tell it that there are too many."""
        super().connection_made(transport)
        self.address = address_of_peer(self.client)
        self._enter(Phase.HEAD)
        if self._all.admit(self):
            self._look_later()
            return
        self._enter(Phase.CLOSING)
        transport.write(_BUSY)
        transport.close()
        self.loop.call_later(self._limits.linger_s, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._all.forget(self)
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the client was told already that the connection ends."""
        if self.phase is Phase.CLOSING:
            return
        if self.phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        before = self.cycle
        self._received += len(data)
        super().data_received(data)
        if self.cycle is not before or self._phase_now() is not self.phase:
            self._enter(self._phase_now())

    def on_response_complete(self) -> None:
        """The answer is complete; what comes next is the client's turn."""
        super().on_response_complete()
        self._enter(self._phase_now())

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        super().pause_writing()
        self._unread_since_s = self.loop.time()

    def resume_writing(self) -> None:
        """The client has read on."""
        super().resume_writing()
        self._unread_since_s = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, also in the middle of a request, and close."""
        self._end(400, msg)

    def drop(self) -> None:
        """End the connection at once, and tell a request that is being read."""
        self._abandon_request()
        self.transport.abort()

    def give_up(self) -> None:
        """End the connection as the server does; who has no answer yet is told."""
        if self.cycle is None or self.cycle.response_complete:
            self.drop()
        else:
            self._end(503, _ENDING)

    def _phase_now(self) -> Phase:
        if self.transport.is_closing():
            return Phase.CLOSING
        if self.cycle is not None and not self.cycle.response_complete:
            return Phase.BODY if self.cycle.more_body else Phase.ANSWER
        if self.conn.their_state is h11.SEND_BODY:
            return Phase.DRAIN
        return Phase.HEAD if self.cycle is None or self.conn.trailing_data[0] else Phase.IDLE

    def _enter(self, phase: Phase) -> None:
        self.phase, self.since_s = phase, self.loop.time()
        self._received, self._ours_s = 0, 0.0

    def _look_later(self) -> None:
        self._looking = self.loop.call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        """End a wait that took too long."""
        self._look_later()
        now_s = self.loop.time()
        if self.transport.is_closing() and self.phase is not Phase.CLOSING:
            self._enter(Phase.CLOSING)
        if self.phase is Phase.BODY and self.flow.read_paused:
            self._ours_s += _LOOK_EVERY_S
        unread_s = 0.0 if self._unread_since_s is None else now_s - self._unread_since_s
        if unread_s > self._limits.unread_s:
            self.drop()
        elif now_s - self.since_s - self._ours_s > self._allowed_s():
            self._time_is_up()

    def _allowed_s(self) -> float:
        limits = self._limits
        return {
            Phase.HEAD: limits.head_s,
            Phase.BODY: limits.body_s + self._received / limits.body_bytes_per_s,
            Phase.DRAIN: limits.linger_s,
            Phase.CLOSING: limits.linger_s,
        }.get(self.phase, float("inf"))

    def _time_is_up(self) -> None:
        if self.phase in (Phase.HEAD, Phase.BODY):
            self._end(408, "The request took too long to arrive.")
        elif self.phase is Phase.DRAIN:
            self.transport.close()
        else:
            self.drop()

    def _end(self, status: int, sentence: str) -> None:
        """Answer for the app, which learns that the client has left, and close."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started:
                self.drop()
                return
            self._abandon_request()
        headers = [("content-type", "text/plain; charset=utf-8"), ("connection", "close")]
        reason = STATUS_PHRASES[status]
        try:
            parts = (
                h11.Response(status_code=status, headers=headers, reason=reason),
                h11.Data(data=sentence.encode()),
                h11.EndOfMessage(),
            )
            self.transport.write(b"".join(self.conn.send(part) or b"" for part in parts))
        except h11.LocalProtocolError:
            # Something else was being answered here.
            self.drop()
            return
        self.transport.close()
        self._enter(Phase.CLOSING)

    def _abandon_request(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()
