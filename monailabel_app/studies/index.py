# SPDX-License-Identifier: Apache-2.0
"""The file of a MONAI Label datastore, ``datastore_v2.json``.

It is read with suspicion and written whole or not at all; one that cannot be read is set aside.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from monailabel_app.common.private_files import PRIVATE_FILE
from monailabel_app.errors import StudiesAwayError, StudiesWriteError
from monailabel_app.framework import ImageLabelModel
from monailabel_app.studies import INDEX_NAME
from monailabel_app.studies.entries import EntryError, read_entry
from monailabel_app.studies.placing import write_whole, writing

MAX_INDEX_BYTES = 512 << 20
MAX_SET_ASIDE = 5
_BROKEN = f"{INDEX_NAME}.broken-"
_IMAGES_FOLDER, _LABELS_FOLDER = ".", "labels"
_AWAY = (
    "The folder of the studies is not there, or another one lies in its place. Connect it again; "
    "it is used as soon as it is back, and nothing is written meanwhile."
)


class BrokenIndexError(Exception):
    """The file is no index; the message finishes the sentence "It ..."."""


@dataclass(frozen=True)
class Stamp:
    """Which version of the file this is; every write makes another file."""

    inode: int
    mtime_ns: int
    size_bytes: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp of a file's status."""
        return cls(status.st_ino, status.st_mtime_ns, status.st_size)


@dataclass(frozen=True)
class IndexContent:
    """What the index says; ``faults`` are those of entries that were left out, each one once."""

    name: str
    description: str
    objects: dict[str, ImageLabelModel]
    faults: tuple[str, ...] = ()


class IndexFile:
    """The index in ``folder``; its callers hold a lock while they write.

    Args:
        image_extensions: those that an image may have; entries with others are left out.
    """

    def __init__(self, folder: Path, image_extensions: Collection[str]) -> None:
        self.folder = folder
        self.path = folder / INDEX_NAME
        self._image_extensions = frozenset(image_extensions)
        self._place: tuple[int, int] | None = None

    def require_folder(self) -> None:
        """Check that the studies are there, and not the empty place of a share that is away.

        Raises:
            StudiesAwayError: they are not.
        """
        try:
            status = self.folder.stat()
            here = self.path.exists()
        except OSError as error:
            raise StudiesAwayError(_AWAY) from error
        place = (status.st_dev, status.st_ino)
        if not stat.S_ISDIR(status.st_mode) or (
            not here and self._place is not None and place != self._place
        ):
            raise StudiesAwayError(_AWAY)
        self._place = place

    def stamp(self) -> Stamp | None:
        """The present version; ``None`` if there is no file."""
        try:
            return Stamp.of(self.path.lstat())
        except FileNotFoundError:
            return None

    def read(self) -> IndexContent:
        """What the file says, without the entries that cannot be believed.

        Raises:
            BrokenIndexError: nothing of it can be read.
        """
        status = self.path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise BrokenIndexError("is no plain file")
        if status.st_size > MAX_INDEX_BYTES:
            raise BrokenIndexError(f"has more than {MAX_INDEX_BYTES >> 20} MB")
        return self._parsed(self.path.read_bytes())

    def write(self, content: IndexContent) -> Stamp:
        """Replace the file, after a check that it will be read back as it is.

        Raises:
            StudiesAwayError: the studies are not there.
            StudiesWriteError: the disk is full or refuses, or the content cannot be read back.
        """
        objects = {key: entry.model_dump() for key, entry in content.objects.items()}
        fields = {
            "name": content.name, "description": content.description,
            "images_dir": _IMAGES_FOLDER, "labels_dir": _LABELS_FOLDER, "objects": objects,
        }  # fmt: skip
        text = self._checked(fields, content)
        self.require_folder()
        with writing():
            return Stamp.of(write_whole(self.path, text))

    def set_aside(self, *, keep: bool) -> str | None:
        """Give a broken file another name; with ``keep`` it stays under its own as well.

        Returns:
            The name, ``None`` if the file is gone already.
        """
        time = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
        target = self.folder / f"{_BROKEN}{time}"
        with writing():
            try:
                if keep:
                    write_whole(target, self.path.read_bytes())
                else:
                    os.replace(self.path, target)
                    if stat.S_ISREG(target.lstat().st_mode):
                        target.chmod(PRIVATE_FILE)
            except FileNotFoundError:
                return None
        files = [name for name in self.broken_files() if (self.folder / name).is_file()]
        for name in files[:-MAX_SET_ASIDE]:
            (self.folder / name).unlink(missing_ok=True)
        return target.name

    def broken_files(self) -> list[str]:
        """Names of the files that were set aside, until the administrator removes them."""
        return sorted(path.name for path in self.folder.glob(f"{_BROKEN}*"))

    def _checked(self, fields: Mapping[str, Any], content: IndexContent) -> bytes:
        try:
            text = json.dumps(fields, indent=2, allow_nan=False).encode()
            if len(text) > MAX_INDEX_BYTES:
                raise BrokenIndexError(f"would have more than {MAX_INDEX_BYTES >> 20} MB")
            again = self._parsed(text)
        except (BrokenIndexError, TypeError, ValueError, RecursionError) as error:
            raise _unreadable(type(error).__name__) from error
        if again.faults or again.objects != content.objects:
            raise _unreadable("; ".join(again.faults) or "it would change")
        return text

    def _parsed(self, text: bytes) -> IndexContent:
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BrokenIndexError(f"is no JSON ({type(error).__name__})") from error
        raw = fields.get("objects") if isinstance(fields, dict) else None
        if not isinstance(raw, dict):
            raise BrokenIndexError("has no images where they belong")
        if (fields.get("images_dir", _IMAGES_FOLDER), fields.get("labels_dir", _LABELS_FOLDER)) != (
            _IMAGES_FOLDER,
            _LABELS_FOLDER,
        ):
            raise BrokenIndexError("says that images or labels lie in other folders")
        objects, faults = {}, []
        for image_id, entry in raw.items():
            try:
                objects[image_id] = read_entry(image_id, entry, self._image_extensions)
            except EntryError as error:
                faults.append(f"an entry {error}")
        name, description = (_text(fields.get(key)) for key in ("name", "description"))
        return IndexContent(name, description, objects, tuple(dict.fromkeys(faults)))


def _text(value: object) -> str:
    clean = isinstance(value, str) and len(value) <= 1000
    return str(value).encode(errors="replace").decode() if clean else ""


def _unreadable(reason: str) -> StudiesWriteError:
    return StudiesWriteError(
        f"The studies' index could not be read back if it were written ({reason}), so nothing was "
        "changed. Tell the administrator."
    )
