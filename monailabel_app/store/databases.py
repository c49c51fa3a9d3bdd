# SPDX-License-Identifier: Apache-2.0
"""Which database the records of a folder are in."""

from __future__ import annotations

from pathlib import Path

from monailabel_app.store.database import Database
from monailabel_app.store.faults import reading
from monailabel_app.store.postgres import PostgresDatabase
from monailabel_app.store.sqlite import DATABASE_NAME, SqliteDatabase


def open_database(folder: Path, address: str | None = None) -> Database:
    """The database of the records whose files lie in ``folder``.

    Args:
        folder: of the files.
        address: of a database server; by default the rows are in an SQLite file in ``folder``.

    Raises:
        RecordStoreError: it cannot be opened, or a newer version has written it.
        SettingsError: the address cannot be used, or folder and database do not belong together.
        MissingExtraError: the driver is not installed.
    """
    with reading():
        if address is None:
            return SqliteDatabase.open(folder / DATABASE_NAME)
        return PostgresDatabase.open(address, folder)
