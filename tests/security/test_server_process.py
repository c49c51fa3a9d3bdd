# SPDX-License-Identifier: Apache-2.0
"""``medreasoner serve`` as a process: neighbours that hold it up, what it leaves, how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import nibabel
import numpy as np
import psutil
import pytest

pytest.importorskip("monailabel")

from support.servers import MedReasonerServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TOKEN = "correct-horse-battery-staple"
IMAGE = "patient-4711"
PASSWORD = "hunter2-of-the-gpu-server"  # pragma: allowlist secret - made up
QUESTION = "Which organ makes bile?"
END_S = 25.0
# The server ends what is half open after 10 s: who is answered later waited for that.
BEFORE_THEY_LEAVE_S = 9.0
HALF_OPEN = {
    "header": b"GET /info/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "nothing": b"",
    "form": b"POST /auth/token HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 90\r\n\r\nusername=",
    "body": b"PUT /datastore/?image=x HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 900000\r\n\r\n--x",
}


class Process(MedReasonerServer):
    """The server, on a folder with one image, with a temporary folder and a home of its own."""

    def __init__(self, folder: Path, *arguments: str, working_folder: Path | None = None) -> None:
        studies = folder / "studies"
        (folder / "tmp").mkdir()
        super().__init__(folder, str(studies), *arguments)
        # What an earlier version left, readable by everybody.
        for name in ("home/app/logs", "sessions", "studies/.medreasoner"):
            (folder / name).mkdir(parents=True)
        (folder / "home" / "app" / "logs" / "app.log").touch(0o644)
        image = nibabel.Nifti1Image(np.full((24, 24, 4), 40, np.int16), np.eye(4))
        nibabel.save(image, studies / f"{IMAGE}.nii.gz")
        self.folder, self.studies = folder, studies
        self._probe = "/auth/"
        if working_folder is not None:
            self._command = ["env", f"--chdir={working_folder}", *self._command]
        self.auth = {"Authorization": f"Bearer {TOKEN}"}

    def limited_to(self, handles: int) -> Process:
        self._command = ["prlimit", f"--nofile={handles}:{handles}", *self._command]
        return self

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        own = {
            "TMPDIR": str(self.folder / "tmp"), "MEDREASONER_TOKEN": TOKEN,
            "MONAI_LABEL_SESSION_PATH": str(self.folder / "sessions"),
        }  # fmt: skip
        super().start({**own, **(environment or {})})

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def end(self) -> float:
        """Ask for the end as systemd does; how long it took, in seconds."""
        before_s = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(END_S)
        return time.monotonic() - before_s

    def ask(self, **more) -> httpx.Response:
        url = f"{self.url}/infer/medreasoner?image={IMAGE}&output=json"
        data = {"params": f'{{"query": "{QUESTION}", "slice": 1}}'}
        return httpx.post(url, data=data, headers=self.auth, timeout=600, **more)

    def hold(self, stack: contextlib.ExitStack, count: int, sent: bytes) -> None:
        port = int(self.url.rsplit(":", 1)[1])
        for _ in range(count):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20.0))
            with contextlib.suppress(OSError):
                held.sendall(sent)

    def told(self) -> str:
        logs = [self.log, *(self.folder / "home").rglob("*.log*")]
        return "".join(path.read_text() for path in logs)


@contextlib.contextmanager
def running(server: Process, environment: Mapping[str, str] | None = None):
    server.start(environment)
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(("handles", "count"), [(256, 300), (1024, 2000), (8192, 2000)])
def test_half_open_connections_keep_nobody_out(tmp_path, handles, count) -> None:
    """300 kept everybody out where a process may have 256 file handles, for as long as they were
    held; 2,000 where it may have 1,024."""
    with running(Process(tmp_path, "--no-preload").limited_to(handles)) as server:
        for sent in HALF_OPEN.values():
            with contextlib.ExitStack() as held:
                server.hold(held, count, sent)
                form = {"username": "x", "password": TOKEN}
                token = httpx.post(
                    f"{server.url}/auth/token", data=form, timeout=BEFORE_THEY_LEAVE_S
                ).json()
                bearer = {"Authorization": f"Bearer {token['access_token']}"}
                told = httpx.get(f"{server.url}/info/", headers=bearer, timeout=BEFORE_THEY_LEAVE_S)
                assert told.is_success
        assert "Too many open files" not in server.told()


def test_what_the_server_makes_is_its_owners_only_and_nothing_stays_behind(tmp_path) -> None:
    with running(Process(tmp_path, "--no-preload")) as server:
        assert httpx.get(f"{server.url}/info/", headers=server.auth, timeout=60).is_success
        assert server.ask().status_code == 200
        assert list((tmp_path / "tmp").iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []
    for name in ("home", "home/app", "home/app/logs", "sessions", "studies/.medreasoner"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700, name
    below = [*(tmp_path / "home").rglob("*"), *(tmp_path / "studies" / ".medreasoner").rglob("*")]
    assert below
    for path in below:
        assert stat.S_IMODE(path.stat().st_mode) in (0o700, 0o600), path


def test_neither_questions_nor_images_nor_passwords_are_told(tmp_path) -> None:
    server = Process(tmp_path, "--no-preload", "--reasoner", "some/model")
    secret = {
        "MEDREASONER_REASONER_URL": f"http://site:{PASSWORD}@127.0.0.1:9/v1",
        "MEDREASONER_REASONER_API_KEY": PASSWORD,
    }
    with running(server, secret):
        told = httpx.get(f"{server.url}/info/", headers=server.auth, timeout=60).text
        answer = server.ask()
        assert answer.status_code == 503
        told += answer.text
        for path in ("/activelearning/random", f"/datastore/image/info?image={IMAGE}", "/nowhere"):
            for method in ("GET", "POST"):
                httpx.request(method, server.url + path, headers=server.auth, timeout=60)
        told += " ".join(server.process.cmdline())
        told += " ".join(w for c in server.process.children(True) for w in c.cmdline())
    assert PASSWORD not in told + server.told()
    assert TOKEN not in server.told()
    assert IMAGE not in server.told()
    assert "bile" not in server.told()


def plant(folder: Path, marker: Path) -> None:
    """Modules that tell of being run, under names that Python looks for by itself or we import."""
    for name in ("sitecustomize", "usercustomize", "numpy", "yaml", "monailabel", "torch", "main"):
        (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'a').write('{name} ')\n")


def test_code_in_the_studies_is_never_run(tmp_path) -> None:
    """Any reader could put it there, and have it run by a training."""
    server = Process(tmp_path, "--no-preload", working_folder=tmp_path / "studies")
    server._command[server._command.index("--studies") + 1] = "."
    marker = tmp_path / "marker"
    plant(tmp_path / "studies", marker)
    # An empty entry means the working folder, to Python.
    paths = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    with running(server, {"PYTHONPATH": os.pathsep.join(paths)}):
        url = f"{server.url}/train/medreasoner"
        for option in ("bundle_path", "PYTHONPATH", "gpus", "local_rank"):
            refused = httpx.post(
                url, json={option: str(server.studies)}, headers=server.auth, timeout=60
            )
            assert refused.status_code == 422, refused.text
            assert option in refused.json()["detail"]
        assert server.ask().status_code == 200
        started = httpx.post(url, json={"seed": 4711}, headers=server.auth, timeout=60)
        assert started.status_code == 200, started.text
        lines = [" ".join(child.cmdline()) for child in server.process.children(True)]
        status = {"status": "RUNNING"}
        while status["status"] == "RUNNING":
            time.sleep(0.5)
            status = httpx.get(f"{server.url}/train/", headers=server.auth, timeout=60).json()
    assert status["status"] == "ERROR"
    assert any("approved" in line.lower() for line in status["details"]), status
    assert "4711" not in " ".join(lines)
    assert not marker.exists(), marker.read_text()
    assert list((server.studies / ".medreasoner" / "training").glob("start-*")) == []


def test_live_is_a_reasoner(tmp_path) -> None:
    """As the documentation says; it was refused."""
    with running(Process(tmp_path, "--reasoner", "live")) as server:
        answer = server.ask()
        assert answer.status_code == 200, answer.text
        assert answer.json()["medreasoner"]["reasoner"]["name"] == "embedded"


def test_a_reasoner_that_does_not_exist_is_refused_at_the_start(tmp_path) -> None:
    server = Process(tmp_path, "--reasoner", "no-such-thing")
    with pytest.raises(AssertionError, match="no-such-thing"):
        server.start()


@pytest.mark.parametrize("work", ["nothing", "half-open", "question", "unread answer"])
def test_the_server_ends_soon_whatever_it_does(tmp_path, work) -> None:
    """uvicorn waits for every connection without end."""
    server = Process(tmp_path, "--no-preload")
    with running(server), contextlib.ExitStack() as held:
        if work == "half-open":
            for sent in HALF_OPEN.values():
                server.hold(held, 20, sent)
        if work == "question":

            def ask() -> None:
                with contextlib.suppress(httpx.TransportError):
                    server.ask()

            threading.Thread(target=ask, daemon=True).start()
            time.sleep(1.0)
        if work == "unread answer":
            line = f"GET /openapi.json HTTP/1.1\r\nHost: l\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
            server.hold(held, 5, line.encode() * 20)
        took_s = server.end()
        assert took_s < END_S
        assert server._process.returncode == -signal.SIGTERM
    server.start()
    server.stop()


def test_a_start_that_takes_long_can_be_ended(tmp_path) -> None:
    server = Process(tmp_path)

    def start() -> None:
        with contextlib.suppress(AssertionError):
            server.start()

    thread = threading.Thread(target=start)
    thread.start()
    while server._process is None:
        time.sleep(0.1)
    time.sleep(4.0)
    server._process.send_signal(signal.SIGTERM)
    try:
        assert server._process.wait(END_S) == -signal.SIGTERM
    except subprocess.TimeoutExpired:
        server.kill()
        raise
    finally:
        thread.join(60)


def test_a_forwarded_address_gets_nobody_round_the_limit(tmp_path) -> None:
    with running(Process(tmp_path, "--no-preload")) as server:
        statuses = []
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for number in range(60):
                headers = {
                    "X-Forwarded-For": f"203.0.113.{number}",
                    "Authorization": f"Bearer guess-number-{number}",
                }
                statuses.append(client.get("/info/", headers=headers).status_code)
            form = {"username": "x", "password": "wrong"}  # pragma: allowlist secret - made up
            page = client.post("/medreasoner/login", data=form)
        assert statuses == [401] * 10 + [429] * 50
        assert page.status_code == 401
        assert "not accepted" in page.text
