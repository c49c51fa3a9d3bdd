# SPDX-License-Identifier: Apache-2.0
"""One server to a folder: a second one is refused with the process that has it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from monailabel_app.common.private_files import PRIVATE_FILE
from monailabel_app.errors import FolderInUseError
from monailabel_app.studies.placing import write_whole

LOCK_NAME = ".medreasoner-server.lock"
HOLDER_NAME = ".medreasoner-server.json"


class ServerLock:
    """Holds folders for this process, until it ends however it ends.

    The kernel frees the lock of a process that is killed. An app that is built anew in the same
    process shares it.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._locks: list[FileLock] = []
        try:
            for folder in folders:
                self._locks.append(_hold(folder))
        except FolderInUseError:
            self.release()
            raise

    def release(self) -> None:
        """Let another server have the folders."""
        while self._locks:
            self._locks.pop().release()


def _hold(folder: Path) -> FileLock:
    """Lock one folder.

    Raises:
        FolderInUseError: another process holds it.
    """
    lock = FileLock(
        folder.resolve() / LOCK_NAME, timeout=0, mode=PRIVATE_FILE, thread_local=False,
        is_singleton=True,
    )  # fmt: skip
    try:
        lock.acquire()
    except Timeout:
        raise FolderInUseError(
            f"Another server uses {folder} already ({_holder(folder)}). Stop it first, or give "
            "this one other studies; two servers would overwrite each other's labels."
        ) from None
    told = {"pid": os.getpid(), "host": socket.gethostname()}
    write_whole(folder / HOLDER_NAME, json.dumps(told).encode())
    return lock


def _holder(folder: Path) -> str:
    try:
        told = json.loads((folder / HOLDER_NAME).read_text(encoding="utf-8"))
        return f"process {int(told['pid'])} on {str(told['host'])[:80]}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its process is not known"
