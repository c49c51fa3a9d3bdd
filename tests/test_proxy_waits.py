# SPDX-License-Identifier: Apache-2.0
"""The DICOMweb proxy on a real server, before a PACS that misbehaves."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from support import misbehaving as peer
from support.misbehaving import Left, MisbehavingServer, misbehaving
from support.servers import free_port

pytest.importorskip("monailabel")

import requests
import uvicorn
from fastapi import FastAPI
from monailabel.config import settings as monailabel_settings

from monailabel_app.framework import DEFAULT_USER, get_current_user
from monailabel_app.inference.gate import Places
from monailabel_app.site.paths import SitePaths
from monailabel_app.web.routes import proxy
from monailabel_app.web.routes.forwarding import ForwardingLimits

CEILING_S = 20
LIMITS = ForwardingLimits(
    connect_s=1.0, silence_s=0.4, head_s=0.8, total_s=2.0, slowest_bytes_s=1000.0, held_bytes=4096
)
PATIENT = ForwardingLimits(silence_s=60, head_s=60, total_s=60)
JSON = b"application/dicom+json"
STOW_TYPE = 'multipart/related; type="application/dicom"; boundary=edge'
ROLE = monailabel_settings.MONAI_LABEL_AUTH_ROLE_USER
READER = DEFAULT_USER.model_copy(update={"username": "ann", "roles": [ROLE]})


class Front:
    """The proxy's routes on a server of their own."""

    def __init__(self, url: str, app: FastAPI) -> None:
        self.url = url
        self.app = app

    def limit(self, limits: ForwardingLimits) -> None:
        self.app.dependency_overrides[proxy.limits] = lambda: limits

    def get(self, path: str, **options) -> httpx.Response:
        return httpx.get(f"{self.url}/proxy/dicom/{path}", timeout=CEILING_S, **options)

    def store(self, content: object, path: str = "stow/studies", **headers) -> httpx.Response:
        headers = {"Content-Type": STOW_TYPE, **headers}
        url = f"{self.url}/proxy/dicom/{path}"
        return httpx.post(url, content=content, headers=headers, timeout=CEILING_S)

    def is_alive(self) -> bool:
        return httpx.get(f"{self.url}/alive", timeout=CEILING_S).status_code == 200

    def raw(self, request: bytes) -> socket.socket:
        host, port = self.url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), timeout=CEILING_S)
        connection.sendall(request)
        return connection

    def status_of(self, method: str, target: str) -> int:
        """The status for a target exactly as it is written; clients would tidy it."""
        request = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
        request += f"Content-Type: {STOW_TYPE}\r\nConnection: close\r\n\r\n"
        with self.raw(request.encode("latin-1")) as connection:
            return int(connection.recv(65536).split(b" ")[1])


@pytest.fixture
def pacs() -> Iterator[MisbehavingServer]:
    with misbehaving() as running:
        yield running


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def running() -> Iterator[Front]:
    app = FastAPI()
    app.include_router(proxy.router)
    app.add_api_route("/alive", lambda: "yes")
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="critical", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Front(f"http://127.0.0.1:{port}", app)
    server.should_exit = True
    thread.join(CEILING_S)


@pytest.fixture
def front(running, pacs, scratch, monkeypatch) -> Front:
    monkeypatch.setattr(proxy, "_session", lambda site: requests.Session())
    paths = SitePaths(f"{pacs.url}/dicom-web/", scratch)
    running.app.state.services = SimpleNamespace(site=SimpleNamespace(paths=paths))
    monkeypatch.setattr(proxy, "_READS", Places(8, 6))
    monkeypatch.setattr(proxy, "_STORES", Places(2))
    running.app.dependency_overrides[get_current_user] = lambda: DEFAULT_USER
    running.limit(LIMITS)
    return running


def wait_until(holds) -> None:
    for _ in range(CEILING_S * 100):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


# --- what is passed on ---------------------------------------------------------------------------

PASSED_ON = {
    "qido/studies?limit=2&PatientID=x%26y": "/dicom-web/studies?limit=2&PatientID=x%26y",
    "wado/studies/1.2/series/1.3/metadata": "/dicom-web/studies/1.2/series/1.3/metadata",
    "qido/studies/1.2/series/1.3/metadata": "/dicom-web/studies/1.2/series/1.3/metadata",
    "wado/studies/1.2/series/1.3/instances/1.4/frames/1,2": (
        "/dicom-web/studies/1.2/series/1.3/instances/1.4/frames/1,2"
    ),
    "wado/studies/1.2/series/1.3/instances/1.4/frames/1%2C2": (
        "/dicom-web/studies/1.2/series/1.3/instances/1.4/frames/1,2"
    ),
    "qido/series": "/dicom-web/series",
}


@pytest.mark.parametrize("asked", PASSED_ON)
def test_dicomwebs_own_resources_are_passed_on(front, pacs, asked) -> None:
    pacs.behaviour = peer.answers(b"[]")
    answer = front.get(asked)
    assert (answer.status_code, answer.content) == (200, b"[]")
    assert pacs.heads[0].split(b" ")[1].decode() == PASSED_ON[asked]


@pytest.mark.parametrize(
    "target",
    [
        "/proxy/dicom/servers", "/proxy/dicom//servers/inner/get", "/proxy/dicom/", "/proxy/dicom",
        "/proxy/", "/proxy", "/proxy/other", "/proxy/dicom/wado", "/proxy/dicom/wado/",
        "/proxy/dicom/wado//studies", "/proxy/dicom/wado/studies/", "/proxy/dicom/wado/studies//1",
        "/proxy/dicom/wado/studies/./1", "/proxy/dicom/wado/studies/../system",
        "/proxy/dicom/wado/studies/%2e%2e/system", "/proxy/dicom/wado/studies/%2E%2E",
        "/proxy/dicom/wado/studies%2f..%2fsystem", "/proxy/dicom/wado/studies/%5c..%5csystem",
        "/proxy/dicom/wado/studies/\\..\\x", "/proxy/dicom/wado/studies/%252e%252e/system",
        "/proxy/dicom/wado/studies/1%00", "/proxy/dicom/wado/studies/1%0d%0aX:y",
        "/proxy/dicom/wado/studies;x=1/..", "/proxy/dicom/wado/studies/..;/x",
        "/proxy/dicom/wado/studies/\xe9", "/proxy/dicom/wado/studies/%c0%ae%c0%ae/x",
        "/proxy/dicom/%77ado%2fstudies", "/proxy/dicom/stow/studies?x/../../",
        "/proxy/dicom/other/studies", "/proxy/dicom/WADO/studies", "/proxy/dicom/wado/system",
        "/proxy/dicom/wado/http://inner/studies", "/proxy/dicom/wado/@inner/studies",
        "/proxy/dicom/wado/studies%3Fx=1", "/proxy/dicom/wado/studies%23x",
        "/proxy/dicom/wado/studies" + "/1" * 40, "//proxy/dicom/wado/studies",
        "/proxy/dicom/wado/proxy/dicom/wado/studies",
    ],
)  # fmt: skip
def test_nothing_else_is_passed_on_by_any_method(front, pacs, target) -> None:
    pacs.behaviour = peer.answers(b"secret")
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert front.status_of(method, target) in (400, 404, 405), method
    if not target.startswith("/proxy/dicom/stow/studies"):
        assert front.status_of("POST", target) in (400, 404, 405)
    assert pacs.heads == []


@pytest.mark.parametrize(
    "path", ["qido/studies", "stow/series", "stow/studies/x", "stow/studies/1.2/3"]
)
def test_objects_are_stored_at_one_place_only(front, pacs, path) -> None:
    assert front.store(b"x", path).status_code == 404
    assert pacs.heads == []


@pytest.mark.parametrize("kind", ["application/json", "text/html", "", "multipart/form-data; a=b"])
def test_another_body_than_dicom_is_refused(front, pacs, kind) -> None:
    assert front.store(b"x", **{"Content-Type": kind}).status_code == 422
    assert pacs.heads == []


def test_a_reader_may_not_more_than_the_role_allows(front, pacs, monkeypatch) -> None:
    from monailabel_app.security import roles

    pacs.behaviour = peer.answers(b"{}")
    front.app.dependency_overrides[get_current_user] = lambda: DEFAULT_USER.model_copy(
        update={"username": "nobody", "roles": []}
    )
    assert front.get("qido/studies").status_code == 403
    assert front.store(b"x").status_code == 403
    assert pacs.heads == []
    assert roles.Action.LABEL is not roles.Action.READ


def test_the_pacs_gets_the_servers_login_and_nothing_of_the_callers(
    front, pacs, monkeypatch
) -> None:
    session = requests.Session()
    session.auth = ("server", "its-password")
    monkeypatch.setattr(proxy, "_session", lambda: session)
    pacs.behaviour = peer.answers(b"[]")
    headers = {
        "Authorization": "Bearer the-reader's", "Cookie": "medreasoner=1", "X-Other": "1",
        "Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*',
        "Accept-Encoding": "gzip", "Forwarded": "for=1", "Range": "bytes=0-1", "Via": "x",
    }  # fmt: skip
    front.get("wado/studies/1.2", headers=headers)
    front.store(b"--edge--", **headers)
    for head in pacs.heads:
        lines = head.decode().lower().split("\r\n")[1:]
        told = dict(line.split(": ", 1) for line in lines)
        assert told["authorization"].startswith("basic ")
        assert told["accept"] == headers["Accept"]
        assert told["accept-encoding"] == "identity"
        allowed = {"host", "accept", "accept-encoding", "authorization", "connection", "user-agent"}
        assert set(told) - allowed <= {"content-type", "content-length"}


@pytest.mark.parametrize(
    "options",
    [
        {"params": {f"p{n}": "1" for n in range(100)}},
        {"params": {"PatientName": "x" * 5000}},
        {"headers": {"Accept": "x" * 2000}},
        {"headers": {"Accept": "application/json\x7f"}},
    ],
    ids=["parameters", "query", "accept", "control character"],
)
def test_what_is_longer_than_any_client_writes_is_refused(front, pacs, options) -> None:
    assert front.get("qido/studies", **options).status_code == 422
    assert pacs.heads == []


def test_what_a_browser_would_run_becomes_bytes(front, pacs) -> None:
    for kind in (b"text/html", b"image/svg+xml", b"application/xhtml+xml", b"text/javascript"):
        pacs.behaviour = peer.answers(b"<script>", kind)
        answer = front.get("wado/studies/1.2/rendered")
        assert answer.headers["content-type"] == "application/octet-stream"
    pacs.behaviour = peer.answers(b"{}", JSON + b"\r\nSet-Cookie: a=1\r\nLocation: http://evil/")
    assert not {"set-cookie", "location"} & set(front.get("qido/studies").headers)


def test_a_redirect_is_not_followed(front, pacs) -> None:
    pacs.behaviour = peer.answers(b"", b"text/plain\r\nLocation: /dicom-web/secret", b"302 Found")
    assert front.get("qido/studies").status_code == 502
    assert len(pacs.heads) == 1


@pytest.mark.parametrize("status", [b"400 Bad", b"404 Not Found", b"409 Conflict", b"415 No"])
def test_what_the_pacs_says_of_the_request_is_passed_on(front, pacs, status) -> None:
    pacs.behaviour = peer.answers(b"{}", JSON, status)
    assert front.get("qido/studies").status_code == int(status[:3])


# --- faults --------------------------------------------------------------------------------------

FAULTS = {
    "hangs": (peer.hangs, 504),
    "hangs in the body": (peer.hangs_in_the_body, 504),
    "dribbles": (peer.dribbles, 504),
    "dribbles the head": (peer.dribbles_headers, 504),
    "endless headers": (peer.sends_endless_headers, 502),
    "hangs up": (peer.hangs_up, 502),
    "cut": (peer.cuts, 502),
    "no HTTP": (peer.says_no_http, 502),
    "HTTP 500": (peer.answers(b"oh", status=b"500 Oh"), 502),
    "its login refused": (peer.answers(b"oh", status=b"401 No"), 502),
    "forbidden": (peer.answers(b"oh", status=b"403 No"), 502),
    "HTTP 999": (peer.answers(b"oh", status=b"999 Oh"), 502),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_pacs_is_typed_in_time_and_others_are_answered(front, pacs, name) -> None:
    pacs.behaviour, status = FAULTS[name]
    held = Left()
    for ask in (lambda: front.get("wado/studies/1.2"), lambda: front.store(b"--edge--")):
        began = time.monotonic()
        answers: list[httpx.Response] = []
        thread = threading.Thread(target=lambda ask=ask, to=answers: to.append(ask()))
        thread.start()
        assert front.is_alive()
        thread.join(CEILING_S)
        assert answers[0].status_code == status
        assert "PACS" in answers[0].json()["detail"]
        assert time.monotonic() - began < CEILING_S
    assert held.nothing()
    assert proxy._READS.taken == proxy._STORES.taken == 0


def test_a_pacs_that_is_not_there_is_said(front, monkeypatch) -> None:
    front.app.state.services.site.paths = SitePaths(peer.unreachable(), Path())
    answer = front.get("qido/studies")
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "hangs"])
def test_a_long_answer_that_breaks_off_does_not_look_whole(front, pacs, cut) -> None:
    def half(connection, body) -> None:
        head = peer.HEAD % b"application/octet-stream" + b"Content-Length: 1000000\r\n\r\n"
        connection.send(head + b"x" * 500_000)
        if not cut:
            connection.wait()

    pacs.behaviour = half
    held = Left()
    with pytest.raises(httpx.RemoteProtocolError):
        front.get("wado/studies/1.2")
    assert held.nothing()
    assert proxy._READS.taken == 0


def test_an_endless_answer_ends_and_is_not_held_in_memory(front, pacs) -> None:
    import psutil

    pacs.behaviour = partial(peer.sends_an_endless_body, kind=b"application/octet-stream")
    before, received = psutil.Process().memory_info().rss, [0]

    def read() -> None:
        url = f"{front.url}/proxy/dicom/wado/studies/1.2"
        with httpx.stream("GET", url, timeout=CEILING_S) as answer:
            for chunk in answer.iter_raw():
                received[0] += len(chunk)

    with pytest.raises(httpx.RemoteProtocolError):
        read()
    assert received[0] > 10_000_000
    assert psutil.Process().memory_info().rss - before < 100 << 20


def test_a_client_that_does_not_read_keeps_nothing_for_ever(front, pacs) -> None:
    pacs.behaviour = partial(peer.sends_an_endless_body, kind=b"application/octet-stream")
    held = Left()
    with front.raw(b"GET /proxy/dicom/wado/studies/1.2 HTTP/1.1\r\nHost: x\r\n\r\n"):
        assert pacs.left.wait(CEILING_S)
    assert held.nothing()
    assert proxy._READS.taken == 0


# --- leaving -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour",
    [peer.hangs, peer.hangs_in_the_body, peer.dribbles, peer.sends_an_endless_body],
    ids=["before the head", "in the body", "dribbling", "endless"],
)
def test_a_reader_who_hangs_up_ends_the_request_to_the_pacs(front, pacs, behaviour) -> None:
    front.limit(PATIENT)
    pacs.behaviour = behaviour
    held = Left()
    connection = front.raw(b"GET /proxy/dicom/wado/studies/1.2 HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: pacs.heads)
    time.sleep(0.1)
    connection.close()
    assert pacs.left.wait(2)
    assert held.nothing()
    assert proxy._READS.taken == 0


def test_a_reader_who_hangs_up_while_storing_stores_nothing(front, pacs, scratch) -> None:
    front.limit(PATIENT)
    head = f"POST /proxy/dicom/stow/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {STOW_TYPE}\r\n"
    held = Left()
    connection = front.raw(head.encode() + b"Content-Length: 3000000\r\n\r\n" + b"x" * 2_000_000)
    wait_until(lambda: proxy._STORES.taken == 1)
    connection.close()
    assert held.nothing()
    wait_until(lambda: proxy._STORES.taken == 0)
    assert pacs.heads == []
    assert list(scratch.iterdir()) == []


def test_a_reader_who_hangs_up_after_storing_ends_the_wait_for_the_pacs(front, pacs) -> None:
    front.limit(PATIENT)
    head = f"POST /proxy/dicom/stow/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {STOW_TYPE}\r\n"
    connection = front.raw(head.encode() + b"Content-Length: 3\r\n\r\nxxx")
    wait_until(lambda: pacs.heads)
    connection.close()
    assert pacs.left.wait(2)


# --- too many, too much --------------------------------------------------------------------------


def test_too_many_requests_are_told_to_come_again(front, pacs) -> None:
    front.limit(PATIENT)
    request = b"GET /proxy/dicom/wado/studies/1.2 HTTP/1.1\r\nHost: x\r\n\r\n"
    front.app.dependency_overrides[get_current_user] = lambda: READER
    connections = [front.raw(request) for _ in range(6)]
    wait_until(lambda: len(pacs.heads) == 6)
    of_one = front.get("qido/studies")
    assert (of_one.status_code, "retry-after" in of_one.headers) == (503, True)
    front.app.dependency_overrides[get_current_user] = lambda: DEFAULT_USER
    connections += [front.raw(request) for _ in range(2)]
    wait_until(lambda: len(pacs.heads) == 8)
    of_all = front.get("qido/studies")
    assert (of_all.status_code, "retry-after" in of_all.headers) == (503, True)
    for connection in connections:
        connection.close()
    wait_until(lambda: not proxy._READS.taken)


def test_a_large_body_is_stored_as_it_is_and_not_held_in_memory(front, pacs, scratch) -> None:
    import psutil

    front.limit(PATIENT)
    size, received = 300 << 20, [0]

    def count(connection, body) -> None:
        received[0] = len(body)
        while received[0] < size:
            received[0] += len(connection.request.recv(1 << 20))
        peer.answers(json.dumps({}).encode())(connection, b"")

    pacs.behaviour = count
    peak, over = [0], threading.Event()
    before = psutil.Process().memory_info().rss

    def watch() -> None:
        while not over.wait(0.05):
            peak[0] = max(peak[0], psutil.Process().memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    answer = front.store(b"x" * (1 << 20) for _ in range(300))
    over.set()
    watcher.join()
    assert answer.status_code == 200
    assert received[0] == size
    assert peak[0] < 100 << 20
    assert list(scratch.iterdir()) == []
