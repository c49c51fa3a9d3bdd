# SPDX-License-Identifier: Apache-2.0
"""The lock that lets one training run at a time, whoever started it.

A file that names the processes: it survives a killed server, and a killed trainer leaves it stale
rather than locked. Several machines may share its folder; what a process of another one does is
known from its word alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.errors import ServiceError
from monailabel_app.training.errors import TrainingRunsError
from monailabel_app.training.processes import ProcessMark

LOCK_NAME = "lock.json"


@dataclass(frozen=True)
class Holder:
    """Who trains in which run's folder: the supervising process first, then the trainer."""

    folder: Path
    processes: tuple[ProcessMark, ...]

    @property
    def is_alive(self) -> bool:
        """Whether any of its processes runs."""
        return any(mark.is_alive for mark in self.processes)

    def to_json(self) -> str:
        """The text of the lock file."""
        marks = [asdict(mark) for mark in self.processes]
        return json.dumps({"folder": str(self.folder), "processes": marks}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Holder:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError, KeyError, TypeError: if it is none.
        """
        fields = json.loads(text)
        return cls(Path(fields["folder"]), tuple(ProcessMark(**m) for m in fields["processes"]))


class TrainingLock:
    """The lock file in ``folder``; several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / LOCK_NAME

    def holder(self) -> Holder | None:
        """Who trains now; ``None`` if nobody does, even if a stale file says so.

        Raises:
            ServiceError: the file is damaged.
        """
        try:
            holder = Holder.from_json(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError(
                f"{self._path} cannot be read ({type(error).__name__}: {error}). Make sure that no "
                "training runs, then remove it."
            ) from error
        return holder if holder.is_alive else None

    @contextmanager
    def held(self, folder: Path) -> Iterator[HeldLock]:
        """Hold the lock for this process.

        Args:
            folder: where this training tells of itself, until :meth:`HeldLock.move` says otherwise.

        Raises:
            TrainingRunsError: a training runs already.
        """
        held = HeldLock(self._path, Holder(folder, (ProcessMark.of(os.getpid()),)))
        with self._guard():
            running = self.holder()
            if running is not None:
                raise running_error(running)
            held.write()
        try:
            yield held
        finally:
            with self._guard():
                held.release()

    def _guard(self) -> FileLock:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return FileLock(self._folder / f".{LOCK_NAME}.guard")


class HeldLock:
    """What the holder tells of itself while it holds the lock."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self._path = path
        self._holder = holder

    def move(self, folder: Path) -> None:
        """The training tells of itself in ``folder`` from now on."""
        self._holder = Holder(folder, self._holder.processes)
        self.write()

    def add(self, pid: int) -> None:
        """The process ``pid`` trains as well, and keeps the lock should this one be killed."""
        mark = ProcessMark.of(pid)
        self._holder = Holder(self._holder.folder, (*self._holder.processes, mark))
        self.write()

    def write(self) -> None:
        """Write the file."""
        write_durably(self._path, self._holder.to_json())

    def release(self) -> None:
        """Remove the file, unless a trainer goes on without this process."""
        if not any(mark.is_alive for mark in self._holder.processes[1:]):
            self._path.unlink(missing_ok=True)


def running_error(holder: Holder) -> TrainingRunsError:
    """The refusal of a second training."""
    alive = [mark for mark in holder.processes if mark.is_alive]
    pids = ", ".join(str(mark.pid) for mark in alive)
    elsewhere = sorted({str(mark.host) for mark in alive if not mark.is_here})
    where = f" on {', '.join(elsewhere)}" if elsewhere else ""
    gone = (
        f" If {elsewhere[0]} is gone for good, remove {LOCK_NAME} in the folder of the trainings."
        if where
        else ""
    )
    return TrainingRunsError(
        f"A training runs already (process {pids}{where}, {holder.folder.name}), and one runs at a "
        "time. Wait for its end, or stop it with 'medreasoner train --stop' or in the viewer; it "
        f"can be resumed later.{gone}"
    )
