# SPDX-License-Identifier: Apache-2.0
"""What was answered, in lines that survive a kill; each process writes a file of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medreasoner_training.json_lines import JsonLines
from monailabel_app.batch.errors import BatchFolderError, BatchRunningError
from monailabel_app.batch.work import Pair
from monailabel_app.common.private_files import PRIVATE_FILE, private_file, private_folder

_PATIENCE_S = 30.0
_FOLDER = "journal"
_ENDING = ".jsonl"


class ProcessJournal:
    """The lines of this process.

    Args:
        out: folder of the run.
    """

    def __init__(self, out: Path) -> None:
        path = private_folder(out / _FOLDER) / f"{uuid.uuid4().hex}{_ENDING}"
        self._lines: JsonLines[dict[str, Any]] = JsonLines(private_file(path), _damaged(path))
        self._lock = _lock_of(path)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Until the block ends, no other run takes over what this process may still write."""
        with self._lock:
            yield

    def begun(self, key: str, inference_id: str) -> None:
        """An answer is about to be recorded under this id."""
        self._lines.append({"key": key, "begun": inference_id})

    def answered(self, pair: Pair) -> None:
        """An answer is recorded, or its files are there."""
        self._lines.append({
            "key": pair.key, "outcome": pair.outcome, "inference_id": pair.inference_id,
            "seconds": pair.seconds, "place": pair.place,
        })  # fmt: skip

    def kept(self, key: str) -> None:
        """The draft of a recorded answer is among the labels."""
        self._lines.append({"key": key, "kept": True})

    def left_out(self, pair: Pair) -> None:
        """The image does not pass a filter of the question."""
        self._lines.append({"key": pair.key, "left_out": pair.left_out})


@dataclass(frozen=True)
class Journal:
    """What all processes of all runs have told, by the key of the pair."""

    answered: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    begun: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def found(self, pair: Pair) -> Pair | None:
        """A pair with what came of it before, ``None`` where it is still to be asked."""
        told = self.answered.get(pair.key)
        if told is not None:
            return replace(
                pair,
                outcome=told["outcome"],
                inference_id=told.get("inference_id"),
                seconds=told.get("seconds"),
                place=told.get("place"),
            )
        aside = self.left_out.get(pair.key)
        return None if aside is None else replace(pair, left_out=aside)


def read_journal(out: Path) -> Journal:
    """What stands in the files of a run's folder; a line that a kill cut short does not count.

    Raises:
        BatchRunningError: a process of an earlier run still works.
        BatchFolderError: a file holds something else.
    """
    paths = sorted((out / _FOLDER).glob(f"*{_ENDING}"))
    return _folded(line for path in paths for line in _lines(path))


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        with _lock_of(path, _PATIENCE_S):
            lines = JsonLines[dict[str, Any]](path, _damaged(path)).values
    except Timeout as error:
        raise BatchRunningError(
            "Processes of an earlier run still work on this folder. Wait until they have ended, or "
            "end them, then give the same command again."
        ) from error
    if not all(isinstance(line, dict) and isinstance(line.get("key"), str) for line in lines):
        raise _damaged(path)
    return lines


def _folded(lines: Iterable[dict[str, Any]]) -> Journal:
    answered: dict[str, Mapping[str, Any]] = {}
    begun: dict[str, tuple[str, ...]] = {}
    left_out: dict[str, str] = {}
    kept = set()
    for line in lines:
        key = line["key"]
        if "outcome" in line:
            answered.setdefault(key, line)
        elif "begun" in line:
            begun[key] = (*begun.get(key, ()), str(line["begun"]))
        elif "left_out" in line:
            left_out[key] = str(line["left_out"])
        elif "kept" in line:
            kept.add(key)
    return Journal(answered, begun, frozenset(kept), left_out)


def _damaged(path: Path) -> BatchFolderError:
    return BatchFolderError(f"{_FOLDER}/{path.name} is damaged. Give a new folder.")


def _lock_of(path: Path, timeout_s: float = 0.0) -> FileLock:
    return FileLock(path.with_suffix(".lock"), timeout=timeout_s, mode=PRIVATE_FILE)
