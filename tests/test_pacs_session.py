# SPDX-License-Identifier: Apache-2.0
"""The session that all requests to a DICOMweb server go through."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
import requests

pytest.importorskip("monailabel")

from monailabel_app.pacs.session import pacs_session


class _ClosesKeptConnections(BaseHTTPRequestHandler):
    """Answers the first request of a connection, if at all, and hangs up on the second."""

    protocol_version = "HTTP/1.1"
    answered = False

    def do_GET(self) -> None:
        self.server.requests.append(self.command)
        if self.answered or self.server.hangs_up:
            self.close_connection = True
            return
        self.answered = True
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ClosesKeptConnections)
        self.requests: list[str] = []
        self.hangs_up = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/dicom-web/studies"


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_no_request_is_lost_with_a_connection_that_the_server_closes(server) -> None:
    session = pacs_session()
    assert session.get(server.url).json() == []
    assert session.get(server.url).json() == []
    assert session.post(server.url, data=b"DICOM").json() == []
    assert server.requests == ["GET", "GET", "POST"]


def test_what_stores_is_not_sent_twice(server) -> None:
    server.hangs_up = True
    with pytest.raises(requests.ConnectionError):
        pacs_session().post(server.url, data=b"DICOM")
    assert server.requests == ["POST"]
