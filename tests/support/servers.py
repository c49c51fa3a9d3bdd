# SPDX-License-Identifier: Apache-2.0
"""Servers as processes of their own, for as long as a test needs them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

START_TIMEOUT_S = 600.0
_ANSWER_TIMEOUT_S = 30.0
_LEAVE_TIMEOUT_S = 60.0


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerProcess:
    """A program that answers HTTP on ``url`` from :meth:`start` to :meth:`stop`."""

    def __init__(self, command: list[str], url: str, probe: str, log: Path) -> None:
        self.url = url
        self.log = log
        self._command = command
        self._probe = probe
        self._process: subprocess.Popen | None = None

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        variables = {**os.environ, **(environment or {})}
        with self.log.open("a") as stream:
            self._process = subprocess.Popen(
                self._command, stdout=stream, stderr=stream, env=variables
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                httpx.get(self.url + self._probe, timeout=_ANSWER_TIMEOUT_S).raise_for_status()
            except httpx.TransportError:
                time.sleep(0.3)
            else:
                return
        self.stop()
        raise AssertionError(f"{self.url} did not come up:\n{self.log.read_text()[-3000:]}")

    @property
    def pid(self) -> int:
        """The number of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End at once, as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still, as an overloaded machine does; connections are kept."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def wait_until_left(self) -> None:
        """Until a client has hung up and the server, paused, has not noticed yet."""
        port = urlsplit(self.url).port
        deadline = time.monotonic() + _LEAVE_TIMEOUT_S
        while time.monotonic() < deadline:
            connections = psutil.net_connections("tcp4")
            ours = [known for known in connections if known.laddr and known.laddr.port == port]
            if any(known.status == psutil.CONN_CLOSE_WAIT for known in ours):
                return
            time.sleep(0.05)
        raise AssertionError(f"Nobody left {self.url}: {[known.status for known in ours]}")

    def stop(self) -> None:
        """End in order."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_ANSWER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()


class MedReasonerServer(ServerProcess):
    """``medreasoner serve`` on the studies of a PACS, its records below ``folder``."""

    def __init__(self, folder: Path, studies: str, *arguments: str) -> None:
        port = free_port()
        command = [sys.executable, "-m", "monailabel_app.cli", "serve", "--studies", studies]
        command += ["--port", str(port), *arguments]
        super().__init__(command, f"http://127.0.0.1:{port}", "/info/", folder / "server.log")
        self._folder = folder

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        own = {
            "MEDREASONER_HOME": str(self._folder / "home"),
            "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(self._folder / "cache"),
        }
        super().start({**own, **(environment or {})})

    def records(self, study_uid: str) -> list[dict]:
        """What the server has recorded of a study, the latest first."""
        answer = httpx.get(f"{self.url}/medreasoner/inferences", params={"study": study_uid})
        return answer.raise_for_status().json()


class Orthanc(ServerProcess):
    """Debian's Orthanc with its DICOMweb plugin, stopped and started as a test wants.

    Attributes:
        url: the address of its own REST API.
        dicom_web: the address of its DICOMweb services.
    """

    PLUGINS = Path("/usr/share/orthanc/plugins")

    def __init__(self, folder: Path) -> None:
        port = free_port()
        configuration = {
            "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
            "HttpPort": port, "DicomServerEnabled": False, "AuthenticationEnabled": False,
            "Plugins": [str(self.PLUGINS)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "orthanc.json"
        path.write_text(json.dumps(configuration))
        url = f"http://127.0.0.1:{port}"
        super().__init__(["Orthanc", str(path)], url, "/system", folder / "orthanc.log")
        self.dicom_web = f"{url}/dicom-web"

    def store(self, content: bytes) -> None:
        httpx.post(f"{self.url}/instances", content=content).raise_for_status()

    def instances(self) -> dict[str, int]:
        """How many instances of each modality it holds."""
        found = httpx.get(f"{self.url}/series", params={"expand": ""}).json()
        counted: Counter[str] = Counter()
        for series in found:
            counted[series["MainDicomTags"]["Modality"]] += len(series["Instances"])
        return dict(counted)
