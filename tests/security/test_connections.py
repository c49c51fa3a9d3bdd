# SPDX-License-Identifier: Apache-2.0
"""How long a client may take, and how many there may be; real sockets, and limits of a second."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from support.raw_http import is_held

from monailabel_app.security.addresses import FORWARDED, address_of, counted_as
from monailabel_app.security.connections import ConnectionLimits, Connections, Phase
from monailabel_app.security.settings import SecuritySettings
from monailabel_app.web.uvicorn_server import (
    Listening,
    accepted_at_once,
    connection_limits,
    make_server,
)

SOON_S = 15.0
QUICK = {"head_s": 1.0, "idle_s": 1.0, "body_s": 1.0, "unread_s": 2.0, "linger_s": 1.0}
HALF_A_HEADER = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


class Work:
    """What the app was given, and whether it learnt that its reader left."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.left = threading.Event()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        if scope["path"] == "/early":
            await self._answer(send, b"early")
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            body, more = body + message["body"], message.get("more_body", False)
        self.bodies.append(body)
        if scope["path"] == "/long":
            await asyncio.sleep(4.0)
        if scope["path"] == "/large":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(2000):
                part = {"type": "http.response.body", "body": bytes(1 << 16), "more_body": True}
                await send(part)
            await send({"type": "http.response.body", "body": b""})
            return
        await self._answer(send, f"{len(body)} bytes from {scope['client'][0]}".encode())

    async def _answer(self, send, text: bytes) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text})


@dataclass
class Served:
    port: int
    work: Work
    server: object

    def connect(self, sent: bytes = b"") -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), SOON_S)
        made.sendall(sent)
        return made

    def get(self, path: str = "/", **content) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=SOON_S, **content)


@contextlib.contextmanager
def serving(limits: ConnectionLimits, **settings) -> Iterator[Served]:
    work = Work()
    made = make_server(work, Listening("127.0.0.1", 0), SecuritySettings(**settings), limits)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        while not made.started:
            time.sleep(0.01)
        yield Served(made.servers[0].sockets[0].getsockname()[1], work, made)
    finally:
        made.should_exit = True
        thread.join(SOON_S)


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(ConnectionLimits(**QUICK)) as started:
        yield started


def everything(connection: socket.socket) -> bytes:
    """What the server sends until it closes; fails if it does not."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            received += part
    return received


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        HALF_A_HEADER,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: loc",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nten bytes.",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\na\r\nten bytes.",
        b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nten bytes.",
    ],
)
def test_a_client_that_stops_sending_is_given_up(served, sent) -> None:
    """Each of these was waited for without end."""
    with served.connect(sent) as connection:
        everything(connection)
    assert served.get().status_code == 200


def test_a_late_request_is_told_so(served) -> None:
    with served.connect(HALF_A_HEADER) as connection:
        assert everything(connection).startswith(b"HTTP/1.1 408 ")
    body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nten bytes."
    with served.connect(body) as connection:
        assert everything(connection).startswith(b"HTTP/1.1 408 ")
    assert served.work.left.wait(SOON_S)
    assert served.work.bodies == []


@pytest.mark.parametrize(
    "dribble",
    [
        (b"GET / HTTP/1.1\r\n", b"X-A: 1\r\n"),
        (b"POST / HTTP/1.1\r\nHost: l\r\nContent-Length: 100000\r\n\r\n", b"1"),
        (b"POST / HTTP/1.1\r\nHost: l\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"POST /early HTTP/1.1\r\nHost: l\r\nContent-Length: 100000\r\n\r\n", b"1"),
    ],
)
def test_a_client_that_dribbles_is_given_up(served, dribble) -> None:
    """A byte now and then must not begin the time anew."""
    first, more = dribble
    with served.connect(first) as connection:
        deadline = time.monotonic() + SOON_S
        try:
            while time.monotonic() < deadline:
                connection.sendall(more)
                time.sleep(0.2)
        except (BrokenPipeError, ConnectionResetError):
            return
    pytest.fail("The server read on.")


def test_a_body_in_time_may_take_longer_than_the_grace(served) -> None:
    """A gigabyte over a slow line is no attack."""
    parts = [bytes(1 << 15) for _ in range(8)]

    def slowly() -> Iterator[bytes]:
        for part in parts:
            yield part
            time.sleep(0.3)

    url = f"http://127.0.0.1:{served.port}/"
    assert httpx.post(url, content=slowly(), timeout=SOON_S).status_code == 200
    assert [len(body) for body in served.work.bodies] == [8 << 15]


def test_work_that_takes_long_is_waited_for(served) -> None:
    """What limits the client must not limit the answer."""
    assert served.get("/long").status_code == 200


def test_a_client_that_never_reads_is_given_up(served) -> None:
    with served.connect(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n") as connection:
        time.sleep(6.0)
        assert len(everything(connection)) < 2000 << 16


def test_a_client_that_reads_slowly_gets_everything() -> None:
    limits = ConnectionLimits(**{**QUICK, "unread_s": 1.0})
    with serving(limits) as served, served.connect() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n")
        received = 0
        while part := connection.recv(1 << 21):
            received += len(part)
            time.sleep(0.01)
    assert received > 2000 << 16


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: l\r\n" + b"X-A: 1\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: l\r\nX-A: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: l\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: l\r\nX-A: " + b"a" * 40_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST / HTTP/1.1\r\nHost: l\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: l\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: l\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request_ends_in_400_and_the_end(served, sent) -> None:
    with served.connect() as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(sent)
        answer = everything(connection)
    # A reset may outrun the answer where the client goes on sending.
    assert answer[:12] in (b"HTTP/1.1 400", b"")
    assert served.get().status_code == 200


def test_a_length_that_is_too_small_makes_no_second_request(served) -> None:
    sent = b"POST / HTTP/1.1\r\nHost: l\r\nContent-Length: 3\r\n\r\nabcGARBAGE here\r\n\r\n"
    with served.connect(sent) as connection:
        answer = everything(connection)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert answer.count(b"HTTP/1.1 400") == 1
    assert served.work.bodies == [b"abc"]


@pytest.mark.parametrize(
    "half", [HALF_A_HEADER, b"POST / HTTP/1.1\r\nHost: l\r\nContent-Length: 9\r\n\r\na", b""]
)
def test_half_open_connections_keep_nobody_out(half) -> None:
    """300 of them did, until they went away by themselves."""
    limits = ConnectionLimits(total=64, per_address=32, head_s=60.0, body_s=60.0)
    with serving(limits) as served, contextlib.ExitStack() as held:
        for _ in range(300):
            last = held.enter_context(served.connect(half))
        assert served.get().status_code == 200
        assert is_held(last), "answered only when the others had gone"
        assert len(served.server.server_state.connections) <= 64


def test_who_is_being_answered_keeps_the_place() -> None:
    limits = ConnectionLimits(total=4, per_address=4)
    with serving(limits) as served, contextlib.ExitStack() as held:
        answers = []
        asking = threading.Thread(target=lambda: answers.append(served.get("/long").status_code))
        asking.start()
        time.sleep(0.5)
        for _ in range(20):
            held.enter_context(served.connect(HALF_A_HEADER))
        asking.join(SOON_S)
        assert answers == [200]


def test_beyond_what_can_be_answered_one_is_told_to_come_again() -> None:
    with serving(ConnectionLimits(total=2, per_address=2)) as served:
        asking = [threading.Thread(target=served.get, args=("/long",)) for _ in range(2)]
        for thread in asking:
            thread.start()
        time.sleep(0.5)
        busy = served.get()
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "5")
        for thread in asking:
            thread.join(SOON_S)
        assert served.get().status_code == 200


def test_a_forwarded_address_counts_only_where_a_proxy_is_named() -> None:
    forged = {"X-Forwarded-For": "203.0.113.9"}
    with serving(ConnectionLimits()) as served:
        assert served.get(headers=forged).text.endswith(" 127.0.0.1")
    with serving(ConnectionLimits(), trusted_proxies="10.0.0.0/8") as served:
        assert served.get(headers=forged).text.endswith(" 127.0.0.1")
    with serving(ConnectionLimits(), trusted_proxies="127.0.0.1") as served:
        assert served.get(headers=forged).text.endswith(" 203.0.113.9")


class Held:
    """A connection as :class:`Connections` sees it."""

    def __init__(self, address: str, phase: Phase, since_s: float, is_known=False) -> None:
        self.address, self.phase, self.since_s, self.is_known = address, phase, since_s, is_known
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


def test_the_busiest_address_gives_way_first() -> None:
    connections = Connections(ConnectionLimits(total=4, per_address=4))
    clinic = Held("10.0.0.1", Phase.IDLE, 0.0)
    flood = [Held("10.9.9.9", Phase.HEAD, float(since)) for since in (1, 2, 3)]
    for held in (clinic, *flood):
        assert connections.admit(held)
    assert connections.admit(Held("10.0.0.2", Phase.HEAD, 4.0))
    assert [held.dropped for held in (clinic, *flood)] == [False, True, False, False]


def test_an_upload_of_somebody_who_is_logged_in_does_not_give_way() -> None:
    connections = Connections(ConnectionLimits(total=2, per_address=2))
    known = Held("a", Phase.BODY, 0.0, is_known=True)
    stranger = Held("a", Phase.BODY, 1.0)
    assert connections.admit(known)
    assert connections.admit(stranger)
    assert connections.admit(Held("a", Phase.ANSWER, 2.0))
    assert (known.dropped, stranger.dropped) == (False, True)
    assert not connections.admit(Held("a", Phase.HEAD, 3.0))


def test_a_proxy_stands_for_many() -> None:
    limits = ConnectionLimits(total=9, per_address=1, proxies=("10.0.0.0/24",))
    connections = Connections(limits)
    assert all(connections.admit(Held("10.0.0.7", Phase.ANSWER, 0.0)) for _ in range(5))
    assert connections.admit(Held("10.0.1.7", Phase.ANSWER, 0.0))
    assert not connections.admit(Held("10.0.1.7", Phase.ANSWER, 0.0))


def test_there_are_never_more_connections_than_file_handles() -> None:
    assert connection_limits(SecuritySettings(), 256).total == 128
    assert connection_limits(SecuritySettings(), 1024).total == 768
    assert connection_limits(SecuritySettings(), 65_536).total == 1024


@pytest.mark.parametrize(("total", "handles", "at_once"),
                         [(768, 1024, 32), (128, 256, 16), (1024, 65_536, 256)])  # fmt: skip
def test_what_is_accepted_before_it_is_counted_finds_a_file_handle(total, handles, at_once) -> None:
    assert accepted_at_once(total, handles) == at_once
    assert total + 4 * at_once <= handles - (handles - total) // 2


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("10.0.0.5", "10.0.0.5"), ("::ffff:10.0.0.5", "10.0.0.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"), ("testclient", "testclient"),
        ("", "unknown"),
    ],
)  # fmt: skip
def test_a_network_of_ipv6_counts_as_one_client(host, counted) -> None:
    assert counted_as(host) == counted


def test_uvicorns_own_trust_in_a_forwarded_address_is_not_shared() -> None:
    """It knows no port then; each new address would have guesses of its own."""
    for address in ("203.0.113.9", "203.0.113.10"):
        assert address_of({"client": (address, 0)}, trusts_proxies=False) == FORWARDED
        assert address_of({"client": (address, 0)}, trusts_proxies=True) == address
    assert address_of({"client": ("10.0.0.5", 4711)}, trusts_proxies=False) == "10.0.0.5"
    assert address_of({"client": None}, trusts_proxies=True) == "unknown"
