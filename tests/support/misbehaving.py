# SPDX-License-Identifier: Apache-2.0
"""A server that misbehaves as it is told to: hangs, dribbles, cuts, never ends."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psutil

# One behaviour for a request: gets the connection and the request's head and body.
Behaviour = Callable[["Peer", bytes], None]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n"
_TICK_S = 0.02


class Peer(socketserver.BaseRequestHandler):
    """One connection; ``over`` is set when the test ends."""

    server: MisbehavingServer

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.request.recv(65536)
            if not piece:
                return
            head += piece
        head, _, body = head.partition(b"\r\n\r\n")
        self.server.heads.append(head)
        path = head.split(b" ")[1].decode()
        found = next((b for start, b in self.server.at.items() if start in path), None)
        (found or self.server.behaviour)(self, body)

    def send(self, content: bytes) -> bool:
        """Whether the client still takes it."""
        try:
            self.request.sendall(content)
        except OSError:
            self.server.left.set()
            return False
        return True

    def wait(self) -> None:
        """Until the client hangs up, or the test is over."""
        self.request.settimeout(_TICK_S)
        while not self.server.over.is_set():
            try:
                if not self.request.recv(65536):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        self.server.left.set()


class MisbehavingServer(socketserver.ThreadingTCPServer):
    """Behaves as :attr:`behaviour` says, below certain paths as :attr:`at` says.

    Attributes:
        heads: of the requests, as they came.
        left: a client has hung up.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Peer)
        self.behaviour: Behaviour = hangs
        self.at: dict[str, Behaviour] = {}
        self.heads: list[bytes] = []
        self.left = threading.Event()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what is tested."""


@contextmanager
def misbehaving() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(_TICK_S,))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def hangs(peer: Peer, body: bytes) -> None:
    """Takes the request, and says nothing."""
    peer.wait()


def hangs_in_the_body(peer: Peer, body: bytes, kind: bytes = b"application/dicom+json") -> None:
    peer.send(HEAD % kind + b"Content-Length: 1000\r\n\r\n[")
    peer.wait()


def dribbles(peer: Peer, body: bytes, kind: bytes = b"application/dicom+json") -> None:
    """A byte every now and then, for ever: no silence is long."""
    peer.send(HEAD % kind + b"Content-Length: 1000000\r\n\r\n")
    while peer.send(b" ") and not peer.server.over.wait(_TICK_S):
        pass


def dribbles_headers(peer: Peer, body: bytes) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while peer.send(b"x") and not peer.server.over.wait(_TICK_S):
        pass


def sends_endless_headers(peer: Peer, body: bytes) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\n")
    while peer.send(b"X-Another: " + b"x" * 1000 + b"\r\n") and not peer.server.over.is_set():
        pass


def sends_an_endless_body(peer: Peer, body: bytes, kind: bytes = b"application/dicom+json") -> None:
    peer.send(HEAD % kind + b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    while peer.send(chunk) and not peer.server.over.is_set():
        pass


def hangs_up(peer: Peer, body: bytes) -> None:
    """Takes the request and closes the connection."""


def cuts(peer: Peer, body: bytes) -> None:
    """Says that there are a thousand bytes, and sends ten."""
    peer.send(HEAD % b"application/dicom+json" + b"Content-Length: 1000\r\n\r\n" + b"[" * 10)


def says_no_http(peer: Peer, body: bytes) -> None:
    peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")


def answers(
    content: bytes, kind: bytes = b"application/dicom+json", status: bytes = b"200 OK"
) -> Behaviour:
    def answer(peer: Peer, body: bytes) -> None:
        head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        peer.send(head % (status, kind, len(content)) + content)

    return answer


def lists(*entries: object) -> Behaviour:
    """DICOM JSON."""
    return answers(json.dumps(entries).encode())


def series(uid: str, study_uid: str, modality: str = "CT") -> dict[str, object]:
    """A series as QIDO-RS lists it."""
    values = {"0020000E": uid, "0020000D": study_uid}
    told: dict[str, object] = {tag: {"vr": "UI", "Value": [v]} for tag, v in values.items()}
    return {**told, "00080060": {"vr": "CS", "Value": [modality]}}


def multipart(parts: Sequence[bytes], *, keep: float = 1.0, length: bool = False) -> Behaviour:
    """DICOM objects, of which the first ``keep`` are sent; without a length, closing is the end."""
    body = b""
    for part in parts:
        body += b"\r\n--edge\r\nContent-Type: application/dicom\r\n\r\n" + part
    body += b"\r\n--edge--"

    def answer(peer: Peer, _: bytes) -> None:
        head = HEAD % b'multipart/related; type="application/dicom"; boundary=edge'
        head += b"Content-Length: %d\r\n" % len(body) if length else b"Connection: close\r\n"
        peer.send(head + b"\r\n" + body[: int(len(body) * keep)])

    return answer


class Left:
    """What a process holds: threads, connections, open files; compared before and after."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.before = self.now()

    def now(self) -> tuple[int, int, int]:
        """Threads that wait for other machines, connections out, and descriptors."""
        waiting = [t for t in threading.enumerate() if t.name.startswith("medreasoner")]
        outgoing = [
            c
            for c in self._process.net_connections("tcp4")
            if c.raddr and c.status in (psutil.CONN_ESTABLISHED, psutil.CONN_SYN_SENT)
        ]
        return len(waiting), len(outgoing), self._process.num_fds()

    def nothing(self, within_s: float = 5.0) -> bool:
        """Whether no more is held than before, soon."""
        pause = threading.Event()
        for _ in range(int(within_s / 0.05)):
            if all(n <= b for n, b in zip(self.now(), self.before, strict=True)):
                return True
            pause.wait(0.05)
        return False


def unreachable() -> str:
    """An address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
