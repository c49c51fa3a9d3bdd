# SPDX-License-Identifier: Apache-2.0
"""What a process holds: memory, threads, handles, children, files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Vitals:
    """One look at a process and its folders; memory is the resident set of it and its children."""

    rss_mb: float
    threads: int
    handles: int
    children: int
    temporary_files: int
    data_mb: float

    def to_dict(self) -> dict[str, float]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Bounds:
    """How much more than before a process may hold; ``rss_share`` is a share, the rest counts."""

    rss_share: float = 0.1
    threads: int = 10
    handles: int = 10
    children: int = 0
    temporary_files: int = 0

    def exceeded(self, before: Vitals, after: Vitals) -> list[str]:
        """What has grown beyond, in words."""
        found = []
        if after.rss_mb > before.rss_mb * (1 + self.rss_share):
            found.append(f"memory grew from {before.rss_mb:.0f} to {after.rss_mb:.0f} MB")
        for name in ("threads", "handles", "children", "temporary_files"):
            first, last = getattr(before, name), getattr(after, name)
            if last > first + getattr(self, name):
                found.append(f"{name.replace('_', ' ')} grew from {first} to {last}")
        return found


def vitals(pid: int, temporary: Path, data: Sequence[Path]) -> Vitals:
    """Look at a process.

    Raises:
        psutil.NoSuchProcess: it has ended.
    """
    process = psutil.Process(pid)
    children = _alive(process.children(recursive=True))
    memory = process.memory_info().rss + sum(_rss(child) for child in children)
    return Vitals(
        round(memory / 2**20, 1), process.num_threads(), process.num_fds(), len(children),
        sum(1 for _ in _files(temporary)),
        round(sum(_size(path) for folder in data for path in _files(folder)) / 2**20, 2),
    )  # fmt: skip


def _alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running()]


def _rss(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0  # It ended between the two looks.


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # Likewise.
