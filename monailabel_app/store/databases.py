# SPDX-License-Identifier: Apache-2.0
"""Which database the records of a folder are in."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select, text

from monailabel_app.common.database_address import shown_database
from monailabel_app.common.records_mark import MARK_NAME, marked_database
from monailabel_app.errors import SettingsError
from monailabel_app.store.database import Database
from monailabel_app.store.faults import reading
from monailabel_app.store.folder_mark import belongs_to
from monailabel_app.store.migrating import require_known
from monailabel_app.store.postgres import PostgresDatabase
from monailabel_app.store.records import PacsState
from monailabel_app.store.sqlite import DATABASE_NAME, SqliteDatabase
from monailabel_app.store.tables import InferenceRow, PacsDocumentRow


def look_at_database(folder: Path, address: str) -> str:
    """One sentence about a database server's records; nothing is changed.

    Raises:
        RecordStoreError: it cannot be asked, or a newer version has written them.
        SettingsError: the address cannot be used, or the files lie in another folder.
        MissingExtraError: the driver is not installed.
    """
    database = PostgresDatabase.connect(address)
    try:
        with reading(), database.engine.connect() as connection:
            version = connection.scalar(text("SHOW server_version"))
            where = f"{shown_database(address)} (PostgreSQL {version})"
            if not require_known(connection):
                return f"{where} has no records yet"
            if not belongs_to(connection, folder):
                raise SettingsError(f"The files of {shown_database(address)} are not in {folder}.")
            answers = connection.scalar(select(func.count()).select_from(InferenceRow))
            waiting = select(func.count()).where(PacsDocumentRow.state == PacsState.PENDING.value)
            return (
                f"{where}: {answers} answer(s), {connection.scalar(waiting)} wait(s) for the PACS"
            )
    finally:
        database.close()


def open_database(folder: Path, address: str | None = None) -> Database:
    """The database of the records whose files lie in ``folder``.

    Args:
        folder: of the files.
        address: of a database server; by default the rows are in an SQLite file in ``folder``.

    Raises:
        RecordStoreError: it cannot be opened, or a newer version has written it.
        SettingsError: the address cannot be used, or folder and database do not belong together, as
            where no address is given for a folder whose records are in a database server.
        MissingExtraError: the driver is not installed.
    """
    elsewhere = marked_database(folder)
    if address is None and elsewhere is not None:
        raise SettingsError(
            f"The records of {folder} are in {shown_database(elsewhere)}, as its file "
            f"{MARK_NAME} says; they have to be opened there."
        )
    with reading():
        if address is None:
            return SqliteDatabase.open(folder / DATABASE_NAME)
        return PostgresDatabase.open(address, folder)
