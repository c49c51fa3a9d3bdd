# SPDX-License-Identifier: Apache-2.0
"""A backup's content put back where nothing lies, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.atomic import replacing_folder, sync_folder
from monailabel_app.common.private_files import PRIVATE_FILE, close_to_others, private_folder
from monailabel_app.site.backup import (
    FORMAT,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    MODELS,
    RECORDS,
    BackupError,
    Manifest,
    SavedFile,
)
from monailabel_app.store.sqlite import DATABASE_NAME

_CHUNK = 1 << 20


def restore_backup(backup: Path, records: Path, models: Path | None) -> Manifest:
    """Unpack ``backup``, compare every file with its hash, then put the folders in their places.

    Args:
        records: folder of the records; must be empty, but for hidden locks, or not there.
        models: likewise of the store of candidates; ``None`` leaves the backup's models out.

    Raises:
        BackupError: the file is no whole backup of ours, names places outside, its content is not
            what its manifest says, or something lies in the places already.
        OSError: the file cannot be read, or a folder cannot be written.
    """
    targets = {RECORDS: records} | ({} if models is None else {MODELS: models})
    for folder in targets.values():
        _require_empty(folder)
    with ExitStack() as unfinished:
        places = {}
        for prefix, folder in targets.items():
            folder.parent.mkdir(parents=True, exist_ok=True)
            places[prefix] = private_folder(unfinished.enter_context(replacing_folder(folder)))
        with _reading(backup) as archive:
            manifest = _unpack(archive, places, backup)
        _check_database(places[RECORDS] / DATABASE_NAME)
        for place in places.values():
            close_to_others(place)
        for folder in targets.values():
            _remove_locks(folder)
    for folder in targets.values():
        sync_folder(folder.parent)
    return manifest


def _require_empty(folder: Path) -> None:
    """Whoever looks into a store leaves its lock there, which holds nothing."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir() or not all(map(_is_lock, folder.iterdir())):
        raise BackupError(
            f"{folder} holds something already, and nothing is overwritten; move it away, or name "
            "another place."
        )


def _is_lock(path: Path) -> bool:
    return (
        path.name.startswith(".")
        and path.name.endswith(".lock")
        and path.is_file()
        and not path.stat().st_size
    )


def _remove_locks(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            if _is_lock(path):
                path.unlink()


def _reading(backup: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(backup, "r:")
    except tarfile.TarError as error:
        raise _not_whole(backup) from error


def _not_whole(backup: Path) -> BackupError:
    return BackupError(f"{backup} is no whole backup: it is cut off, damaged, or another file.")


def _unpack(archive: tarfile.TarFile, places: dict[str, Path], backup: Path) -> Manifest:
    found: dict[str, SavedFile] = {}
    manifest: Manifest | None = None
    try:
        for member in archive:
            stream = _content(archive, member)
            if member.name == MANIFEST_NAME:
                manifest = _read_manifest(stream, member.size)
                break
            if member.name in found:
                raise BackupError(f"The backup holds {member.name!r} twice.")
            prefix, inside = _place(member.name)
            target = places[prefix] / inside if prefix in places else None
            found[member.name] = _copy(stream, target, member.size)
    except (tarfile.TarError, EOFError) as error:
        raise _not_whole(backup) from error
    if manifest is None:
        raise _not_whole(backup)
    wrong = {
        name for name in {*found, *manifest.files} if found.get(name) != manifest.files.get(name)
    }
    if wrong:
        raise BackupError(
            f"{len(wrong)} files of {backup} are not what its manifest says, the first of them "
            f"{min(wrong)!r}; take another backup."
        )
    return manifest


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member) if member.isreg() and not member.issparse() else None
    if stream is None:
        raise BackupError(f"The backup's {member.name!r} is no plain file; nothing was restored.")
    return stream


def _place(name: str) -> tuple[str, Path]:
    """The folder's prefix and the path below it.

    Raises:
        BackupError: the name leads elsewhere.
    """
    prefix, *inside = name.split("/")
    strange = {"", ".", ".."}.intersection(inside) or not name.isprintable() or "\\" in name
    if prefix not in (RECORDS, MODELS) or not inside or strange:
        raise BackupError(f"The backup names the place {name!r}; nothing was restored.")
    return prefix, Path(*inside)


def _copy(stream: IO[bytes], target: Path | None, size: int) -> SavedFile:
    digest, length = hashlib.sha256(), 0
    with ExitStack() as closing_it:
        written = None
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE)
            written = closing_it.enter_context(os.fdopen(descriptor, "wb"))
        for chunk in _chunks(stream):
            digest.update(chunk)
            length += len(chunk)
            if written is not None:
                written.write(chunk)
        if written is not None:
            written.flush()
            os.fsync(written.fileno())
    if length != size:
        raise EOFError
    return SavedFile(length, digest.hexdigest())


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: stream.read(_CHUNK), b"")


def _read_manifest(stream: IO[bytes], size: int) -> Manifest:
    if size > MAX_MANIFEST_BYTES:
        raise BackupError(f"The backup's manifest has {size} bytes; it is none of ours.")
    try:
        told = json.loads(stream.read())
        if told.pop("format") != FORMAT:
            raise BackupError(
                "The backup is of another format; restore it with the version that wrote it."
            )
        return TypeAdapter(Manifest).validate_python(told)
    except (ValueError, AttributeError, KeyError, ValidationError) as error:
        if isinstance(error, BackupError):
            raise
        raise BackupError("The backup's manifest cannot be read; take another backup.") from error


def _check_database(path: Path) -> None:
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path)) as database:
            (said,) = database.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        raise BackupError(f"The backup's database is damaged ({said}); take another backup.")
