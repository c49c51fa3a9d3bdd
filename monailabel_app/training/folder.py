# SPDX-License-Identifier: Apache-2.0
"""The folder that holds everything about training at a site; see the package for its layout."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.home import home_folder
from medreasoner_training.finetune import Progress, State, read_progress
from medreasoner_training.finetune.errors import ProgressError
from monailabel_app.training.lock import TrainingLock

FOLDER_NAME = "training"
INTERRUPTED = "The training was interrupted; start it again and it goes on from its checkpoint."
_LATEST = "latest.json"
_DECIDED = frozenset({State.PROMOTED, State.REFUSED, State.FINISHED})
_NUMBER = re.compile(r"-r(\d+)$")


class TrainingFolder:
    """``training`` inside the app's data folder."""

    def __init__(self, data_dir: Path) -> None:
        # The trainer runs in another directory.
        self.root = data_dir.absolute() / FOLDER_NAME
        self.lock = TrainingLock(self.root)

    @property
    def data_dir(self) -> Path:
        """The app's data folder."""
        return self.root.parent

    @property
    def preparing(self) -> Path:
        """Where a start tells of itself before its run has a folder."""
        return self.root / "preparing"

    @property
    def datasets(self) -> Path:
        """Exported data sets, by their content."""
        return self.root / "datasets"

    def latest(self) -> Path | None:
        """The folder of the training that was started last, if there was one."""
        try:
            fields = json.loads((self.root / _LATEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Path(fields["folder"])

    def make_latest(self, folder: Path) -> None:
        """Make ``folder`` and have :meth:`latest` and :func:`last_training` find it."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(self.root / _LATEST, json.dumps({"folder": str(folder)}) + "\n")
        home = home_folder()
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = json.dumps({"data_dir": str(self.data_dir)}) + "\n"
        write_durably(home / _LAST_TRAINING, text)

    def run_folder(self, name: str, *, fresh: bool) -> Path:
        """The folder for a run of that name: the newest one if it is unfinished, else a new one.

        Args:
            name: says which configuration and data; runs after the first one get ``-r2``, ``-r3``.
            fresh: a new one in any case.
        """
        runs = self.root / "runs"
        known = {1: name} if (runs / name).is_dir() else {}
        for path in runs.glob(f"{name}-r*"):
            match = _NUMBER.search(path.name)
            if match is not None:
                known[int(match[1])] = path.name
        newest = max(known, default=0)
        if newest and not fresh and not is_decided(runs / known[newest]):
            return runs / known[newest]
        return runs / (f"{name}-r{newest + 1}" if newest else name)

    def progress(self) -> Progress | None:
        """What the latest training told last; ``None`` if there was none.

        One that tells of work although nobody works was interrupted.
        """
        folder = self.latest()
        if folder is None:
            return None
        alive = self.lock.holder() is not None
        try:
            progress = read_progress(folder)
        except ProgressError:
            # Nothing is told yet, or the last thing was told before a crash of the machine.
            progress = Progress(State.PREPARING)
        if alive or progress.state.is_end:
            return progress
        return replace(progress, state=State.FAILED, seconds_left=None, message=INTERRUPTED)


_LAST_TRAINING = "last_training.json"


def last_training() -> TrainingFolder | None:
    """The training folder of this user's last training, whatever the studies."""
    try:
        fields = json.loads((home_folder() / _LAST_TRAINING).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return TrainingFolder(Path(fields["data_dir"]))


def is_decided(run: Path) -> bool:
    """Whether a run has come to its end, so that there is nothing to resume."""
    try:
        return read_progress(run).state in _DECIDED
    except ProgressError:
        return False
