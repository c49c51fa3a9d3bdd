# SPDX-License-Identifier: Apache-2.0
"""What ``medreasoner serve`` and ``medreasoner demo`` say where the server cannot start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel")

from monailabel_app.studies.server_lock import ServerLock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


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


def medreasoner(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "monailabel_app.cli", *map(str, arguments)]
    own = {"MEDREASONER_HOME": str(folder / "home"), "COLUMNS": "80"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={**os.environ, **own}, timeout=250
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
    "no certificate": (("--certificate", "no.pem"), 1, ("no.pem", "PEM")),
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


def test_studies_that_another_server_holds_are_said_with_its_process(tmp_path, studies) -> None:
    held = studies / ".medreasoner"
    lock = ServerLock([held])
    try:
        served = medreasoner(tmp_path, "serve", "--studies", studies, "--port", 0)
        shown = medreasoner(tmp_path, "demo", "--studies", studies)
    finally:
        lock.release()
    words = (f"Another server uses {held}", f"process {os.getpid()} on ", "Stop it first")
    assert_ends_with(served, 3, *words)
    assert_ends_with(shown, 1, *words, "demo_output/server.log")


def test_records_and_folders_that_cannot_be_used_are_said(tmp_path, studies) -> None:
    records = studies / ".medreasoner" / "records.sqlite"
    records.write_bytes(b"no database, by any means" * 400)
    done = medreasoner(tmp_path, "serve", "--studies", studies, "--port", 0)
    assert_ends_with(done, 3, "records", "DatabaseError")
    records.unlink()
    (tmp_path / "home").write_text("no folder")
    done = medreasoner(tmp_path, "serve", "--studies", studies, "--port", 0)
    assert_ends_with(done, 3, "home")


def test_the_demo_says_what_keeps_its_server_from_starting(tmp_path, studies, monkeypatch) -> None:
    monkeypatch.setenv("MEDREASONER_TOKEN_FILE", "nowhere")
    assert_ends_with(medreasoner(tmp_path, "demo", "--studies", studies), 1, "nowhere")
    monkeypatch.setenv("MEDREASONER_TOKEN_FILE", "")
    monkeypatch.setenv("MEDREASONER_TOKEN", "a-token-of-the-site-itself")
    done = medreasoner(tmp_path, "demo", "--studies", studies)
    assert_ends_with(done, 1, "login", "MEDREASONER_TOKEN")
