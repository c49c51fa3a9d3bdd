# SPDX-License-Identifier: Apache-2.0
"""Files and folders that only their owner reads; patients' data and questions lie in them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

PRIVATE_UMASK = 0o077
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


def keep_private() -> None:
    """Have what this process makes from now on be its owner's only."""
    os.umask(PRIVATE_UMASK)


def private_folder(folder: Path) -> Path:
    """Make a folder of mode 700, or give one that was there before that mode.

    Nobody reaches what lies in it then, whatever the modes inside.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
    folder.chmod(_FOLDER_MODE)
    return folder


def repair(folders: Iterable[Path]) -> None:
    """Give folders that an earlier version made mode 700, and the files right in them 600.

    What is missing, or another user's, is passed over.
    """
    for folder in folders:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            folder.chmod(_FOLDER_MODE)
            for file in folder.iterdir():
                if file.is_file() and not file.is_symlink():
                    file.chmod(_FILE_MODE)
