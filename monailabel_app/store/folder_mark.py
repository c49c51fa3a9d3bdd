# SPDX-License-Identifier: Apache-2.0
"""Which folder of files and which database belong together.

A worker with another folder would not find the masks and labels that the records name. So the
database knows a mark that a file in the folder repeats (:mod:`monailabel_app.common.records_mark`).
"""

from __future__ import annotations

import uuid
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select

from monailabel_app.common.database_address import shown_database
from monailabel_app.common.records_mark import FolderMark, read_mark
from monailabel_app.errors import SettingsError
from monailabel_app.store.sqlite import DATABASE_NAME
from monailabel_app.store.tables import InferenceRow, LabelRow

# Not among the tables of the migrations, as SQLite's file lies in its folder.
_MARKS = Table("record_folder", MetaData(), Column("mark", String(32), primary_key=True))


def require_own_folder(connection: Connection, folder: Path, address: str) -> FolderMark:
    """The mark of a folder that belongs to the database, which a new database is given.

    Raises:
        SettingsError: the folder belongs to other records.
    """
    _MARKS.create(connection, checkfirst=True)
    known, told = connection.scalar(select(_MARKS.c.mark)), read_mark(folder)
    if known is not None and told is not None and told.mark == known:
        return told
    if told is not None or (known is not None and _has_records(connection)):
        raise SettingsError(
            f"The files of {shown_database(address)} do not lie in {folder}. Give --records the "
            "folder that this database's other workers use, mounted here."
        )
    if (folder / DATABASE_NAME).exists():
        raise SettingsError(
            f"{folder} has records in {DATABASE_NAME}. Move them with 'medreasoner records move', "
            "or give --records another folder."
        )
    return make_mark(connection, address)


def make_mark(connection: Connection, address: str) -> FolderMark:
    """The mark of the database, whichever folder it is to be written into."""
    _MARKS.create(connection, checkfirst=True)
    known = connection.scalar(select(_MARKS.c.mark))
    if known is None:
        known = uuid.uuid4().hex
        connection.execute(insert(_MARKS).values(mark=known))
    return FolderMark(known, address)


def belongs_to(connection: Connection, folder: Path) -> bool:
    """Whether a database that has a mark has that of the folder; nothing is changed."""
    if not inspect(connection).has_table(_MARKS.name):
        return read_mark(folder) is None
    known, told = connection.scalar(select(_MARKS.c.mark)), read_mark(folder)
    return known is None or (told is not None and told.mark == known)


def _has_records(connection: Connection) -> bool:
    first = (select(table.id).limit(1) for table in (InferenceRow, LabelRow))
    return any(connection.scalar(statement) is not None for statement in first)
