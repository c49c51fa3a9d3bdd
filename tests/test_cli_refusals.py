# SPDX-License-Identifier: Apache-2.0
"""What ``medreasoner serve`` and ``medreasoner demo`` say where the server cannot start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel")

from medreasoner_infer.errors import ServiceError
from monailabel_app.cli import tour
from monailabel_app.studies.server_lock import ServerLock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    (folder / ".medreasoner").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), folder / "a.nii.gz")
    return folder


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def patient_demo(tmp_path: Path, monkeypatch) -> Callable[[Path], str]:
    """What keeps the demo's server from answering, on a machine that may be busy."""
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tour, "START_TIMEOUT_S", 1e4)

    def ask(studies: Path) -> str:
        log = tmp_path / "server.log"
        with (
            pytest.raises(ServiceError) as refused,
            tour.running_server(studies, tour.free_port(), log),
        ):
            pass
        return str(refused.value)

    return ask


def medreasoner(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "monailabel_app.cli", *map(str, arguments)]
    own = {"MEDREASONER_HOME": str(folder / "home"), "COLUMNS": "80"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={**os.environ, **own}, timeout=800
    )


def assert_ends_with(done: subprocess.CompletedProcess, status: int, *words: str) -> None:
    """The sentence is the last line, and there is no traceback."""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: "), done.stderr[-3000:]
    for word in words:
        assert word in last
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == status


REFUSED = {
    "no studies": (("--studies", "nowhere"), 1, ("folder nowhere", "connect the share")),
    "no token file": (("--token-file", "nowhere"), 1, ("token file", "nowhere")),
    "token file of a folder": (("--token-file", "studies"), 1, ("token file", "studies")),
    "no certificate": (
        ("--certificate", "no.pem"),
        1,
        ("no.pem", "PEM", "without --certificate-key"),
    ),
    "no certificate in it": (("--certificate", "text", "--certificate-key", "text"), 1, ("text",)),
    "a key alone": (("--certificate-key", "text"), 1, ("--certificate",)),
    "no such host": (("--host", "no.invalid", "--allow-unauthenticated"), 3, ("no.invalid",)),
    "no such model": (("--reasoner", "nowhere"), 1, ("nowhere",)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_options_that_cannot_be_used_are_said(tmp_path, studies, what) -> None:
    options, status, words = REFUSED[what]
    (tmp_path / "text").write_text("no certificate")
    done = medreasoner(tmp_path, "serve", "--studies", studies, "--port", 0, *options)
    assert_ends_with(done, status, *words)


def test_a_port_that_no_machine_has_is_a_wrong_option(tmp_path, studies) -> None:
    assert medreasoner(tmp_path, "serve", "--studies", studies, "--port", 70000).returncode == 2


def test_a_taken_port_is_said_before_anything_else_is_looked_at(
    tmp_path, studies, taken_port
) -> None:
    """So that nobody waits for models in vain: the studies are taken as well, and not named."""
    (studies / ".medreasoner" / "records.sqlite").write_bytes(b"no database")
    done = medreasoner(tmp_path, "serve", "--studies", studies, "--port", taken_port)
    assert_ends_with(done, 3, f"port {taken_port}", "--port")
    assert not (tmp_path / "home").exists()


def test_studies_that_another_server_holds_are_said_with_its_process(
    tmp_path, studies, patient_demo
) -> None:
    held = studies / ".medreasoner"
    sentence = f"Another server uses {held} already (process {os.getpid()} on "
    lock = ServerLock([held])
    try:
        served = medreasoner(tmp_path, "serve", "--studies", studies, "--port", 0)
        shown = patient_demo(studies)
    finally:
        lock.release()
    assert_ends_with(served, 3, sentence, "Stop it first")
    assert shown.startswith(sentence)
    assert "Stop it first" in shown
    assert shown.endswith(f"The server's log is {tmp_path / 'server.log'}.")


def test_records_that_are_no_database_are_said(tmp_path, studies) -> None:
    (studies / ".medreasoner" / "records.sqlite").write_bytes(b"no database, by any means" * 400)
    done = medreasoner(tmp_path, "serve", "--studies", studies, "--port", 0)
    assert_ends_with(done, 3, "records", "DatabaseError")


def test_a_home_that_is_no_folder_is_said(tmp_path, studies) -> None:
    (tmp_path / "home").write_text("no folder")
    done = medreasoner(tmp_path, "serve", "--studies", studies, "--port", 0)
    assert_ends_with(done, 3, str(tmp_path / "home"))


def test_the_demo_ends_with_the_servers_sentence(tmp_path, studies, monkeypatch) -> None:
    monkeypatch.setenv("MEDREASONER_TOKEN_FILE", "nowhere")
    done = medreasoner(tmp_path, "demo", "--studies", studies)
    assert_ends_with(done, 1, "token file nowhere", "demo_output/own_studies/server.log")


def test_the_demo_does_not_wait_for_a_server_that_asks_for_a_login(
    studies, monkeypatch, patient_demo
) -> None:
    monkeypatch.setenv("MEDREASONER_TOKEN", "a-token-of-the-site-itself")
    assert "MEDREASONER_TOKEN" in patient_demo(studies)


def test_a_demo_into_a_file_is_a_wrong_option(tmp_path, studies) -> None:
    (tmp_path / "text").touch()
    done = medreasoner(tmp_path, "demo", "--studies", studies, "--out", "text")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
