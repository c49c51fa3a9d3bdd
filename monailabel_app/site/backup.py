# SPDX-License-Identifier: Apache-2.0
"""A site's records and models in one file, taken while the server runs.

The file is a plain tar: ``records/`` as in the folder of the records, ``models/`` as in the store
of candidates, and at last ``manifest.json`` with size and SHA-256 of each. An archive that was cut
off has no manifest.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from medreasoner_infer import __version__
from medreasoner_infer.atomic import replacing
from medreasoner_infer.errors import InputError, ServiceError
from monailabel_app.common.private_files import PRIVATE_FILE, private_file
from monailabel_app.store.sqlite import DATABASE_NAME

FORMAT = 1
MANIFEST_NAME = "manifest.json"
RECORDS, MODELS = "records", "models"
MAX_MANIFEST_BYTES = 256 << 20
# Copies of what the studies hold, and uploads that nobody has looked at yet.
_NOT_KEPT_FOLDERS = frozenset({"scratch", "series"})
_DATABASE_FILES = frozenset(DATABASE_NAME + end for end in ("", "-wal", "-shm", "-journal"))


class BackupError(InputError):
    """The backup cannot be written there, or is none; the message says why."""


class BackupReadError(ServiceError):
    """What is to be saved cannot be read."""


@dataclass(frozen=True)
class SavedFile:
    """A file of a backup: its size in bytes and its content's hash."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup holds, by the names inside the archive."""

    version: str
    created_at: str
    files: dict[str, SavedFile]

    def to_bytes(self) -> bytes:
        """As the archive's last member."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()

    @property
    def has_database(self) -> bool:
        """Whether the records' own database is in it; one in PostgreSQL is not."""
        return f"{RECORDS}/{DATABASE_NAME}" in self.files


def require_records(folder: Path) -> None:
    """Refuse to save the models alone where the records were meant.

    Raises:
        BackupError: there is no folder of records.
    """
    if not folder.is_dir():
        raise BackupError(
            f"There are no records in {folder}. Give the studies that were served, or by --records "
            "the folder that the server was given."
        )


def links_within(*folders: Path) -> list[Path]:
    """Links in what is saved, which a backup leaves behind with all that they lead to."""
    return [
        path
        for folder in folders
        for place, inner, names in _walked(folder)
        for path in (place / name for name in (*inner, *names))
        if path.is_symlink()
    ]


def write_backup(records: Path, models: Path, out: Path) -> Manifest:
    """Save both folders into the new file ``out``; a folder that is not there is left out.

    The database is copied first and whole (SQLite's backup): files are kept before the rows that
    name them, so each row finds its file, whatever is recorded meanwhile.

    Raises:
        BackupError: ``out`` is there already, lies inside what is saved, or there is nothing.
        BackupReadError: the database cannot be read.
    """
    if os.path.lexists(out):
        raise BackupError(f"{out} is there already; give the name of a new file.")
    if any(out.resolve().is_relative_to(folder.resolve()) for folder in (records, models)):
        raise BackupError(f"{out} would lie in what is saved; give a place outside.")
    files: dict[str, SavedFile] = {}
    with replacing(out, durable=True) as unfinished:
        private_file(unfinished)
        with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as archive:
            _add_database(archive, records / DATABASE_NAME, unfinished, files)
            for folder, prefix in ((records, RECORDS), (models, MODELS)):
                for name, path in _kept(folder):
                    _add_file(archive, path, f"{prefix}/{name}", files)
            if not files:
                raise BackupError(f"There is nothing to save in {records} or {models}.")
            manifest = Manifest(__version__, datetime.now(timezone.utc).isoformat(), files)
            _add(archive, io.BytesIO(manifest.to_bytes()), MANIFEST_NAME, len(manifest.to_bytes()))
    return manifest


def _add_database(
    archive: tarfile.TarFile, path: Path, beside: Path, files: dict[str, SavedFile]
) -> None:
    if not path.is_file():
        return
    copy = private_file(beside.with_name(f"{beside.name}.sqlite"))
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with (
            closing(sqlite3.connect(uri, uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
        _add_file(archive, copy, f"{RECORDS}/{DATABASE_NAME}", files)
    except sqlite3.Error as error:
        raise BackupReadError(f"The database {path} cannot be read ({error}).") from error
    finally:
        copy.unlink()


def _kept(folder: Path) -> Iterator[tuple[str, Path]]:
    """Plain files with their names below ``folder``; neither links, locks nor unfinished files."""
    for place, _, names in _walked(folder):
        for path in (place / name for name in names):
            if _is_plain(path):
                yield path.relative_to(folder).as_posix(), path


def _walked(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder that is saved, with the names of the folders and of the files in it."""
    for place, folders, names in os.walk(folder):
        top = Path(place) == folder
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not (top and name in _NOT_KEPT_FOLDERS)
        )
        saved = (
            name
            for name in names
            if not name.startswith(".")
            and not name.endswith(".lock")
            and not (top and name in _DATABASE_FILES)
        )
        yield Path(place), folders, sorted(saved)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _add_file(archive: tarfile.TarFile, path: Path, name: str, files: dict[str, SavedFile]) -> None:
    """Add a file, unless it was removed meanwhile, as old masks are."""
    with suppress(FileNotFoundError), path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        hashed = _Hashing(stream)
        _add(archive, hashed, name, size)
        files[name] = SavedFile(size, hashed.digest.hexdigest())


def _add(archive: tarfile.TarFile, stream: IO[bytes] | _Hashing, name: str, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, PRIVATE_FILE
    archive.addfile(member, stream)


class _Hashing:
    """Reads a stream and hashes what was read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """As the stream's."""
        read = self._stream.read(size)
        self.digest.update(read)
        return read
