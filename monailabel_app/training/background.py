# SPDX-License-Identifier: Apache-2.0
"""A training in a process of its own, started by the server.

MONAI Label would write the request on the process's command line, let it choose what goes into
``PYTHONPATH``, and start it where the server was started. Here the process is told the name of a
file, of mode 600, and runs in the folder of the trainings.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess  # nosec B404 # starts our own program
import sys
import threading
import uuid
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from monailabel_app.common.import_path import child_environment
from monailabel_app.errors import ConflictError
from monailabel_app.training.folder import TrainingFolder

logger = logging.getLogger(__name__)

PROGRAM = "monailabel_app.training.program"
RUNNING, DONE, ERROR, STOPPED = "RUNNING", "DONE", "ERROR", "STOPPED"
_LINES_KEPT = 20
_TIME = "%Y-%m-%d %H:%M:%S"


class StartedTraining:
    """One process, and the last lines that it printed."""

    def __init__(self, key: str, process: subprocess.Popen[str]) -> None:
        self.key = key
        self.process = process
        self._started_at = datetime.now()
        self._ended_at: datetime | None = None
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._stopped = False
        self._reading = threading.Thread(target=self._read, name="training", daemon=True)
        self._reading.start()

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def mark_stopped(self) -> None:
        """Somebody asked for the end, so that it is no fault."""
        self._stopped = True

    def kill(self) -> None:
        """End it at once, with all that it started."""
        if self.is_running:
            os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self, timeout_s: float) -> None:
        """Until it has ended, or ``timeout_s`` have passed."""
        self._reading.join(timeout_s)

    def to_dict(self) -> dict[str, Any]:
        """What MONAI Label's clients read of a task."""
        ended = {} if self._ended_at is None else {"end_ts": self._ended_at.strftime(_TIME)}
        return {
            "id": self.key,
            "status": self._status(),
            "request": {},
            "start_ts": self._started_at.strftime(_TIME),
            **ended,
            "details": list(self._lines),
        }

    def _status(self) -> str:
        if self._stopped:
            return STOPPED
        if self._ended_at is None:
            return RUNNING
        return DONE if self.process.returncode == 0 else ERROR

    def _read(self) -> None:
        assert self.process.stdout is not None  # nosec B101 # for type checkers
        for line in self.process.stdout:
            if line.strip():
                self._lines.append(line.rstrip())
                logger.info("%s", line.rstrip())
        self.process.wait()
        self._ended_at = datetime.now()


class BackgroundTraining:
    """The trainings that this server started; one at a time.

    Args:
        folder: of the site's trainings.
        studies: folder or address, which no code is imported from.
        setup: what the process needs to know besides the options, see
            :mod:`monailabel_app.training.program`.
    """

    def __init__(self, folder: TrainingFolder, studies: str, setup: Mapping[str, Any]) -> None:
        self._folder = folder
        self._studies = studies
        self._setup = dict(setup)
        self._starting = threading.Lock()
        self._all: list[StartedTraining] = []

    @property
    def last(self) -> StartedTraining | None:
        """The one that was started last."""
        return self._all[-1] if self._all else None

    @property
    def running(self) -> StartedTraining | None:
        """The one that runs."""
        last = self.last
        return last if last is not None and last.is_running else None

    def start(self, options: Mapping[str, Any]) -> StartedTraining:
        """Start a training with options that were checked already.

        Raises:
            ConflictError: if one of these runs.
            OSError: if the process cannot be started.
        """
        with self._starting:
            if self.running is not None:
                raise ConflictError(
                    f"A training is being started already (process {self.running.process.pid})."
                )
            started = self._start(options)
            self._all[:-1] = []
            self._all.append(started)
            return started

    def _start(self, options: Mapping[str, Any]) -> StartedTraining:
        key = uuid.uuid4().hex
        root = self._folder.root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        told = root / f"start-{key}.json"
        write_private(told, json.dumps({**self._setup, "options": dict(options)}))
        process = subprocess.Popen(  # nosec B603 # a list, no shell, nothing of a caller
            [sys.executable, "-m", PROGRAM, told.name],
            cwd=root,
            env=_environment(self._studies),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        return StartedTraining(key, process)


def write_private(path: Path, text: str) -> None:
    """A new file of mode 600.

    Raises:
        FileExistsError: if there is one already.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def _environment(studies: str) -> dict[str, str]:
    own = {"MONAI_LABEL_DATASTORE_AUTO_RELOAD": "false"}
    return {**child_environment(os.environ, studies), **own}
