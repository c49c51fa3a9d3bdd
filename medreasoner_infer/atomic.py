# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear whole or not at all, whatever ends the process in between."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(
    target: Path, suffix: str | None = None, *, prefix: str = ".", durable: bool = False
) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place when the block ends well.

    Its name is its own, so that two writers of one target do not meet; the last one wins.

    Args:
        target: file to write; an existing one is replaced.
        suffix: what the temporary name ends with, for libraries that go by it, e.g. ``.nii.gz``; by
            default the target's last suffix.
        prefix: what it begins with, by which the remains of a killed process are known.
        durable: whether a loss of power leaves the old or the new file as well.
    """
    ending = target.suffix if suffix is None else suffix
    temporary = target.with_name(f"{prefix}{uuid.uuid4().hex}{ending}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        sync_folder(target.parent)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Path of a folder to make, which becomes ``target`` when the block ends well.

    For one writer at a time: what a crash left of an earlier attempt is removed first.

    Raises:
        OSError: ``target`` is a folder that holds something, or a file.
    """
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        yield unfinished
        os.replace(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_durably(path: Path, text: str, *, private: bool = False) -> None:
    """Replace ``path`` by ``text`` such that even a loss of power leaves the old or the new file.

    Call it under a lock: what a crash left unfinished is overwritten the next time.

    Args:
        path: of the file.
        text: its new content.
        private: let the owner alone read it, whatever the process's umask.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with open(unfinished, "w", encoding="utf-8", opener=_private if private else None) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)


def _private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)  # one that a crash left keeps its mode
    return descriptor


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
