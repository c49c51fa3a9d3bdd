# SPDX-License-Identifier: Apache-2.0
"""HTTP requests as bytes, so that no client library mends or refuses what a test wants to send."""

from __future__ import annotations

import base64
import http.client
import socket
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Headers = tuple[tuple[str, str], ...]

_LARGEST_ANSWER_BYTES = 1 << 26
_LATE = "no answer in time"
_FRAMING = {"content-length", "transfer-encoding"}


@dataclass(frozen=True)
class RawRequest:
    """A request; texts become bytes as Latin-1, so any byte can be sent.

    Attributes:
        target: path and query as they are sent.
        what: what is odd about it, in words.
        is_framed: whether its head says truly where it ends; a server may answer anything else with
            a bare 400, or not at all.
        awaits_more: whether less is sent than was announced; the client then closes its half.
    """

    method: str
    target: str
    headers: Headers = ()
    body: bytes = b""
    what: str = ""
    is_framed: bool = True
    awaits_more: bool = False

    @property
    def is_http(self) -> bool:
        """Whether it is HTTP at all: its framing holds, and its address has no raw bytes."""
        return self.is_framed and self.target.isascii()

    def encoded(self, host: str) -> bytes:
        """The bytes on the wire."""
        own = [("Host", host), ("Connection", "close")]
        if not _FRAMING & {name.lower() for name, _ in self.headers}:
            own.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (*own, *self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + self.body

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for :meth:`of`."""
        return {
            "method": self.method, "target": self.target, "what": self.what,
            "headers": [list(header) for header in self.headers],
            "body_base64": base64.b64encode(self.body).decode(),
            "is_framed": self.is_framed, "awaits_more": self.awaits_more,
        }  # fmt: skip

    @classmethod
    def of(cls, saved: dict[str, Any]) -> RawRequest:
        """What :meth:`to_dict` saved."""
        values = dict(saved)
        body = base64.b64decode(values.pop("body_base64"))
        headers = tuple((name, value) for name, value in values.pop("headers"))
        return cls(**values, headers=headers, body=body)


@dataclass(frozen=True)
class RawAnswer:
    """What came back; ``status`` is ``None`` where nothing did, and ``fault`` says why."""

    status: int | None
    seconds: float
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    fault: str = ""

    @property
    def is_late(self) -> bool:
        """Whether the wait for it was given up."""
        return self.fault == _LATE


def send(url: str, request: RawRequest, timeout_s: float) -> RawAnswer:
    """Send a request to the server at ``url`` and read the whole answer, at most ``timeout_s``."""
    started = time.monotonic()
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname, address.port), timeout_s) as connection:
            _write(connection, request, f"{address.hostname}:{address.port}")
            return _read(connection, request.method, started, timeout_s)
    except TimeoutError:
        return _nothing(started, _LATE)
    except (OSError, http.client.HTTPException) as error:
        return _nothing(started, f"the connection ended without an answer ({type(error).__name__})")


def _write(connection: socket.socket, request: RawRequest, host: str) -> None:
    try:
        connection.sendall(request.encoded(host))
        if request.awaits_more:
            connection.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        return  # Refused before all was sent; the answer may lie there.


def _read(connection: socket.socket, method: str, started: float, timeout_s: float) -> RawAnswer:
    answer = http.client.HTTPResponse(connection, method=method)
    answer.begin()
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < _LARGEST_ANSWER_BYTES:
        if time.monotonic() - started > timeout_s:
            raise TimeoutError
        piece = answer.read1(1 << 20)
        if not piece:
            break
        pieces.append(piece)
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return RawAnswer(answer.status, time.monotonic() - started, headers, b"".join(pieces))


def _nothing(started: float, fault: str) -> RawAnswer:
    return RawAnswer(None, time.monotonic() - started, fault=fault)


def hang_up(url: str, request: RawRequest, read_bytes: int, after_s: float) -> int:
    """Send a request, read the beginning of its answer, and leave; returns the status or 0."""
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname, address.port), after_s) as connection:
            _write(connection, request, f"{address.hostname}:{address.port}")
            begun = connection.recv(max(read_bytes, 16))
    except OSError:
        return 0
    words = begun.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def half_open(url: str, seconds: float) -> None:
    """Send half of a request's head and hold the connection, at most ``seconds``."""
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname, address.port), seconds) as connection:
            connection.sendall(b"GET /info/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: ")
            connection.settimeout(seconds)
            connection.recv(1)
    except OSError:
        return  # The server closed it, or the time is over.


def is_held(connection: socket.socket) -> bool:
    """Whether the server has neither answered nor closed a connection."""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return False
