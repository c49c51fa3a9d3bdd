# SPDX-License-Identifier: Apache-2.0
"""Where uploads lie until they are looked at: a folder of the server's own, closed to others."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging.formats import identify
from monailabel_app.common.private_files import PRIVATE_FILE, PRIVATE_FOLDER, private_folder
from monailabel_app.studies.placing import writing

_BLOCK = 1 << 20


class Scratch:
    """Files that are gone when their block ends, however it ends.

    Args:
        folder: made at first use.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def empty(self) -> None:
        """Remove what a killed server left; call it while no other server uses the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def file(self, suffix: str = "") -> Iterator[Path]:
        """A new, empty file of the server's own naming."""
        with writing():
            path = private_folder(self.folder) / f"{uuid.uuid4().hex}{suffix}"
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, PRIVATE_FILE))
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A new, empty folder for the files of one request."""
        with writing():
            folder = private_folder(self.folder) / uuid.uuid4().hex
            folder.mkdir(PRIVATE_FOLDER)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def received(self, content: BinaryIO, max_bytes: int) -> Iterator[Path]:
        """What a caller uploads, under a name without extension.

        Raises:
            InputError: it is longer than ``max_bytes``.
            StudiesWriteError: the disk is full.
        """
        with self.file() as path:
            with writing(), path.open("wb") as file:
                received = 0
                while block := content.read(_BLOCK):
                    received += len(block)
                    if received > max_bytes:
                        raise InputError(
                            f"The file is longer than the {max_bytes >> 20} MB that are taken."
                        )
                    file.write(block)
            yield path

    @contextmanager
    def named(self, path: Path) -> Iterator[Path]:
        """The same file under the extension that its content calls for.

        Raises:
            UnreadableImageError: it is of no format that is taken.
        """
        proper = path.with_name(f"{path.name}{identify(path).suffix}")
        os.replace(path, proper)
        try:
            yield proper
        finally:
            proper.unlink(missing_ok=True)
