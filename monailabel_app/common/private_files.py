# SPDX-License-Identifier: Apache-2.0
"""Files and folders that only the server's own account may read."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def keep_private() -> None:
    """Have what this process makes from now on be its owner's only."""
    os.umask(_OTHERS)


def private_folder(folder: Path, *, parents: bool = True) -> Path:
    """Make ``folder`` if needed, and close it to other accounts.

    Raises:
        OSError: it cannot be made, e.g. because the folder above it is not there.
    """
    folder.mkdir(mode=PRIVATE_FOLDER, parents=parents, exist_ok=True)
    _close(folder)
    return folder


def private_file(path: Path) -> Path:
    """Make an empty file if there is none, and close it to other accounts."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE_FILE))
    _close(path)
    return path


def close_folders(folders: Iterable[Path]) -> None:
    """Take the rights of other accounts from folders and the files right in them.

    What is missing, or another user's, is passed over.
    """
    for folder in folders:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            _close(folder)
            for path in folder.iterdir():
                if path.is_file():
                    _close(path)


def close_to_others(folder: Path) -> int:
    """Take the rights of other accounts from everything in ``folder``; links are not followed.

    Returns:
        How many files and folders had been open to them.
    """
    opened = int(_close(folder))
    for place, folders, files in os.walk(folder):
        opened += sum(_close(Path(place) / name) for name in (*folders, *files))
    return opened


def _close(path: Path) -> bool:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode) or not mode & _OTHERS:
        return False
    path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
    return True
