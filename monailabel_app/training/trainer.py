# SPDX-License-Identifier: Apache-2.0
"""The trainer's process: start it, follow what it tells, stop it, say how it ended."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess  # nosec B404 # starts the trainer that the site configured
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from medreasoner_infer.errors import InputError
from medreasoner_training.finetune import Progress, State, read_progress, request_stop
from medreasoner_training.finetune.errors import ProgressError
from medreasoner_training.finetune.progress import clear_stop, stop_requested, write_progress
from monailabel_app.common.import_path import child_environment
from monailabel_app.training.lock import HeldLock
from monailabel_app.training.processes import ProcessMark

MODULE = "medreasoner_training.finetune"
LOG_NAME = "trainer.log"
STOP_GRACE_S = 120.0
_END_GRACE_S = 15.0
_POLL_S = 1.0
_LOG_TAIL_BYTES = 4000
_SHOWN_CHARACTERS = 300
_STOPPED = "Stopped on request; start it again and it goes on from its checkpoint."
_ADVICE = (
    (
        ("out of memory", "outofmemoryerror"),
        "The memory of the GPU ran out. Choose a smaller grpo.micro_batch, fewer "
        "grpo.generations, tuning lora or run.gradient_checkpointing, or stop what else uses it.",
    ),
    (
        ("no space left on device",),
        "The disk is full. Free some space and start again; the run goes on from its checkpoint.",
    ),
)

OnProgress = Callable[[Progress], None]


def trainer_command(setting: str | None) -> list[str]:
    """The command line that a run's folder is appended to.

    Args:
        setting: as an administrator writes it, e.g. ``accelerate launch --num_processes 4 -m
            medreasoner_training.finetune``, or the Python of another environment; by default this
            interpreter.

    Raises:
        InputError: it is no command line.
    """
    if setting is None:
        return [sys.executable, "-m", MODULE]
    try:
        words = shlex.split(setting)
    except ValueError as error:
        raise InputError(f"train_command is no command line ({error}); mind the quotes.") from error
    if not words:
        raise InputError("train_command is empty; expected a command such as 'accelerate launch'.")
    # The trainer runs in its run's folder, from where a relative path would mean another file.
    program = os.path.abspath(words[0]) if os.sep in words[0] else words[0]
    return [program, *words[1:]]


class Trainer:
    """One run of the trainer.

    It gets a session of its own, so that neither a signal for the server's terminal nor the
    server's death ends it, and a stop reaches every process that it starts.

    Args:
        command: of :func:`trainer_command`.
        run: folder with ``config.yaml``.
        held: lock that the process is added to.
    """

    def __init__(self, command: Sequence[str], run: Path, held: HeldLock) -> None:
        self._run = run
        clear_stop(run)
        write_progress(run, _starting(run))
        with (run / LOG_NAME).open("ab") as log:
            self._process = _start([*command, str(run)], run, log)
        self._mark = ProcessMark.of(self._process.pid)
        held.add(self._process.pid)
        self._deadlines_s: list[tuple[float, signal.Signals]] = []

    def follow(self, on_progress: OnProgress) -> Progress:
        """Wait for the end and tell ``on_progress`` what is new; an interrupt (Ctrl-C) stops.

        Returns:
            How the run ended; its state is always an end, and ``progress.json`` tells the same.
        """
        told: Progress | None = None
        while True:
            try:
                ended = self._wait()
                progress = _read(self._run)
                if progress is not None and progress != told and not ended:
                    on_progress(told := progress)
                if ended:
                    break
            except KeyboardInterrupt:
                self.stop()
        last = self._settle()
        on_progress(last)
        return last

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Ask for a checkpoint and the end; after ``grace_s`` it is terminated, then killed.

        Asked again, it is terminated at once.
        """
        request_stop(self._run)
        if self._deadlines_s:
            grace_s = 0.0
        now = time.monotonic()
        self._deadlines_s = [
            (now + grace_s, signal.SIGTERM),
            (now + grace_s + _END_GRACE_S, signal.SIGKILL),
        ]

    def _wait(self) -> bool:
        if self._deadlines_s:
            # Asked again: a trainer that starts forgets what an earlier one was asked.
            request_stop(self._run)
        while self._deadlines_s and time.monotonic() >= self._deadlines_s[0][0]:
            self._mark.signal_group(self._deadlines_s.pop(0)[1])
        try:
            self._process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _settle(self) -> Progress:
        """What the run told last, or if that is no end, what its exit tells."""
        progress = _read(self._run) or Progress(State.PREPARING)
        if progress.state.is_end:
            return progress
        state, message = State.STOPPED, _STOPPED
        if not stop_requested(self._run):
            state, message = State.FAILED, self._fault(self._process.returncode)
        last = replace(progress, state=state, seconds_left=None, message=message)
        write_progress(self._run, last)
        return last

    def _fault(self, code: int) -> str:
        tail = _log_tail(self._run / LOG_NAME)
        for signs, advice in _ADVICE:
            if any(sign in tail.lower() for sign in signs):
                return advice
        if code == -signal.SIGKILL:
            return (
                "The trainer was killed, most likely because memory ran out; see the system's log. "
                "Start it again and it goes on from its checkpoint."
            )
        lines = [line.strip() for line in tail.splitlines() if line.strip()]
        said = f": {lines[-1][:_SHOWN_CHARACTERS]}" if lines else ""
        return f"The trainer ended with status {code}{said}. See {LOG_NAME} in the run's folder."


def _start(command: Sequence[str], run: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # nosec B603 # a list, no shell; the site's own command
            command,
            cwd=run,
            env=_environment(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        message = (
            f"The trainer {command[0]!r} cannot be started ({error.strerror}); check train_command."
        )
        write_progress(run, replace(_starting(run), state=State.FAILED, message=message))
        raise InputError(message) from error


def _environment(command: Sequence[str]) -> dict[str, str]:
    """Without the server's tokens; our own program imports nothing from the run's folder."""
    kept = child_environment(os.environ, None)
    if list(command[:3]) != trainer_command(None):
        # Whose command is an administrator's script may import what lies beside it.
        del kept["PYTHONSAFEPATH"]
    return kept


def _starting(run: Path) -> Progress:
    """The figures of an earlier attempt, so that no stale end is taken for this one's."""
    earlier = _read(run) or Progress(State.PREPARING)
    return Progress(
        State.PREPARING,
        step=earlier.step,
        total_steps=earlier.total_steps,
        held_out_iou=earlier.held_out_iou,
        best_iou=earlier.best_iou,
        message="The trainer starts.",
    )


def _read(run: Path) -> Progress | None:
    try:
        return read_progress(run)
    except ProgressError:
        return None


def _log_tail(path: Path) -> str:
    with path.open("rb") as log:
        log.seek(0, os.SEEK_END)
        log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
        return log.read().decode(errors="replace")
