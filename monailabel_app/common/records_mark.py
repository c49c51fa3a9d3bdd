# SPDX-License-Identifier: Apache-2.0
"""The file in a folder of records that says in which database they are.

Commands read it before they know whether they need a database at all, so it needs none to be read.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from medreasoner_infer.atomic import replacing
from monailabel_app.common.database_address import checked_database
from monailabel_app.common.private_files import PRIVATE_FILE
from monailabel_app.errors import SettingsError

MARK_NAME = "records_database.json"


@dataclass(frozen=True)
class FolderMark:
    """What the file says: the mark, and the database's address, which holds no password."""

    mark: str
    address: str


def marked_database(folder: Path) -> str | None:
    """The database whose files a folder holds, ``None`` where the records lie in it themselves.

    Raises:
        SettingsError: the file that says so is damaged.
    """
    mark = read_mark(folder)
    return None if mark is None else mark.address


def write_mark(folder: Path, mark: FolderMark) -> None:
    """Say in the folder which database it belongs to, unless it does already."""
    path = folder / MARK_NAME
    if path.exists():
        return
    # Several workers may start at once; what they write is the same.
    with replacing(path, durable=True) as unfinished:
        unfinished.touch(PRIVATE_FILE)
        unfinished.write_text(json.dumps(asdict(mark), indent=2) + "\n", encoding="utf-8")


def read_mark(folder: Path) -> FolderMark | None:
    """What the folder's file says, ``None`` without one.

    Raises:
        SettingsError: the file is damaged.
    """
    path = folder / MARK_NAME
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return FolderMark(str(told["mark"]), checked_database(told["address"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path} cannot be read ({type(error).__name__}). Restore it from a backup; it says "
            "which database the files belong to."
        ) from error
