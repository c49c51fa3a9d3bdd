# SPDX-License-Identifier: Apache-2.0
"""Stopping whatever training runs, also one that a killed server left behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medreasoner_training.finetune import State, read_progress, request_stop
from medreasoner_training.finetune.errors import ProgressError
from medreasoner_training.finetune.progress import write_progress
from monailabel_app.training.errors import NothingTrainsError
from monailabel_app.training.folder import TrainingFolder
from monailabel_app.training.processes import ProcessMark
from monailabel_app.training.trainer import STOP_GRACE_S

_POLL_S = 0.5
_END_GRACE_S = 15.0


def stop_training(folder: TrainingFolder, grace_s: float = STOP_GRACE_S) -> None:
    """Ask for a checkpoint and the end, and wait for it; who does not end in time is terminated.

    Args:
        folder: of the site's trainings.
        grace_s: time for the checkpoint.

    Raises:
        NothingTrainsError: no training runs.
    """
    holder = folder.lock.holder()
    if holder is None:
        raise NothingTrainsError("No training runs, so there is nothing to stop.")
    deadline = time.monotonic() + grace_s
    while (now := folder.lock.holder()) is not None and time.monotonic() < deadline:
        # Asked again and again: a training that still prepares moves on to its run's folder.
        holder = now
        request_stop(holder.folder)
        time.sleep(_POLL_S)
    # The supervising process ends by itself once its trainer has.
    for chosen, number in (
        (slice(1, None), signal.SIGTERM),
        (slice(1, None), signal.SIGKILL),
        (slice(None), signal.SIGTERM),
        (slice(None), signal.SIGKILL),
    ):
        if (now := folder.lock.holder()) is not None and now.processes[chosen]:
            holder = now
            _signal(folder, now.processes[chosen], number)
    _settle(holder.folder)


def _signal(folder: TrainingFolder, marks: Sequence[ProcessMark], number: signal.Signals) -> None:
    for mark in marks:
        mark.signal_group(number)
    deadline = time.monotonic() + _END_GRACE_S
    while folder.lock.holder() is not None and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _settle(run: Path) -> None:
    """Leave no run that tells of work; its own processes may have been killed before the end."""
    try:
        progress = read_progress(run)
    except ProgressError:
        return
    if not progress.state.is_end:
        message = "Terminated, as it did not stop in time; its last checkpoint is kept."
        ended = replace(progress, state=State.STOPPED, seconds_left=None, message=message)
        write_progress(run, ended)
