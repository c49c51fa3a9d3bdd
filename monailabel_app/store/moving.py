# SPDX-License-Identifier: Apache-2.0
"""From the SQLite file in a folder to a database server; the files stay where they are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, func, insert, select

from monailabel_app.common.database_address import shown_database
from monailabel_app.common.records_mark import write_mark
from monailabel_app.errors import SettingsError
from monailabel_app.store.faults import MOVING, recording
from monailabel_app.store.folder_mark import make_mark
from monailabel_app.store.migrating import upgrade
from monailabel_app.store.postgres import PostgresDatabase, wait_for_turn
from monailabel_app.store.sqlite import DATABASE_NAME, SqliteDatabase
from monailabel_app.store.tables import Base

MOVED_NAME = f"{DATABASE_NAME}.moved"
_AT_ONCE = 500
_TABLES = tuple(Base.metadata.sorted_tables)


@dataclass(frozen=True)
class Moved:
    """How many rows each table has, as counted in the new database."""

    rows: dict[str, int]


def move_records(folder: Path, address: str) -> Moved:
    """Copy all rows, count them, and keep the old file under another name.

    Call it while nobody else writes to the folder. Interrupted, it may be called again.

    Args:
        folder: of the records.
        address: of an empty database, as :func:`.checked_database` takes it.

    Raises:
        SettingsError: there is nothing to move, or the database has other records.
        RecordStoreError: it could not be done; the old file counts as before.
        MissingExtraError: the driver is not installed.
    """
    if not (folder / DATABASE_NAME).is_file():
        raise SettingsError(f"There are no records to move in {folder}: no {DATABASE_NAME}.")
    target = PostgresDatabase.connect(address)
    with recording(MOVING):
        source = SqliteDatabase.open(folder / DATABASE_NAME)
        try:
            with source.engine.connect() as old, target.engine.begin() as new:
                wait_for_turn(new)
                upgrade(new)
                before, there = _counts(old), _counts(new)
                if any(there.values()) and there != before:
                    raise SettingsError(
                        f"{shown_database(address)} has records already; give an empty database."
                    )
                if not any(there.values()):
                    for table in _TABLES:
                        _copy(table, old, new)
                moved, mark = Moved(_counts(new)), make_mark(new, address)
                if moved.rows != before:
                    raise OSError("The number of rows differs.")
        finally:
            source.close()
            target.close()
        write_mark(folder, mark)
        os.replace(folder / DATABASE_NAME, folder / MOVED_NAME)
    return moved


def _counts(connection: Connection) -> dict[str, int]:
    return {
        table.name: connection.scalar(select(func.count()).select_from(table)) or 0
        for table in _TABLES
    }


def _copy(table: Table, old: Connection, new: Connection) -> None:
    rows = old.execution_options(yield_per=_AT_ONCE).execute(select(table)).mappings()
    for part in rows.partitions():
        new.execute(insert(table), [dict(row) for row in part])
    column = table.autoincrement_column
    if column is not None:
        last = new.scalar(select(func.max(column)))
        if last is not None:
            numbers = func.pg_get_serial_sequence(table.name, column.name)
            new.execute(select(func.setval(numbers, last)))
