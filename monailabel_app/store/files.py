# SPDX-License-Identifier: Apache-2.0
"""Mask files beside the database."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medreasoner_infer.atomic import replacing
from monailabel_app.common.private_files import PRIVATE_FILE, private_folder

_BLOCK = 1 << 20


@dataclass(frozen=True)
class StoredFile:
    """Name inside its archive, SHA-256 of the file, and its size."""

    name: str
    sha256: str
    size_bytes: int


class FileArchive:
    """A folder of files that appear whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        private_folder(folder)

    def path(self, name: str) -> Path:
        """Where the file of that name lies."""
        return self.folder / name

    def put(self, name: str, write: Callable[[Path], object]) -> StoredFile:
        """Let ``write`` write a temporary file of the same extension, then give it its name."""
        path = self.path(name)
        with replacing(path, "".join(path.suffixes), durable=True) as written:
            write(written)
            written.chmod(PRIVATE_FILE)
            return StoredFile(name, sha256_of(written), written.stat().st_size)

    def names(self, prefix: str) -> list[str]:
        """The names of the files that begin so."""
        return [path.name for path in self.folder.iterdir() if path.name.startswith(prefix)]

    def drop(self, name: str) -> None:
        """Remove a file; one that is gone already is fine."""
        self.path(name).unlink(missing_ok=True)


def copy_bytes(source: Path | None, path: Path) -> None:
    """Copy what is in a file, with neither its times nor its rights."""
    if source is not None:
        shutil.copyfile(source, path)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
