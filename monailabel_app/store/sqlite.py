# SPDX-License-Identifier: Apache-2.0
"""The records in an SQLite file beside the masks: one server, and commands on the same machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from monailabel_app.common.private_files import PRIVATE_FILE, private_file
from monailabel_app.store.database import Database
from monailabel_app.store.migrating import MIGRATION_LOCK_TIMEOUT_S, upgrade

DATABASE_NAME = "records.sqlite"
# How long a request waits for another process that writes, and for a free connection.
BUSY_TIMEOUT_S = 3.0


class SqliteDatabase(Database):
    """One database file.

    SQLite goes on writing to a file that has been removed; here that is a fault.
    """

    def __init__(self, engine: Engine, path: Path) -> None:
        super().__init__(engine)
        self._path = path
        self._file = _identity(path)

    @classmethod
    def open(cls, path: Path) -> SqliteDatabase:
        """Open the database at ``path``, make it if needed, and bring it up to date.

        Write-ahead logging lets readers read while one writes and keeps every committed record
        when the process dies; it needs a local disk, not a network share.

        Raises:
            RecordStoreError: a newer version has written it.
        """
        # SQLite gives its journals the rights of the database.
        private_file(path)
        engine = create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={"timeout": BUSY_TIMEOUT_S},
            pool_timeout=BUSY_TIMEOUT_S,
        )
        event.listen(engine, "connect", _configure)
        upgrade_file(engine, path)
        return cls(engine, path)

    def stand_alone(self, session: Session, what: str) -> None:
        """All that writes stands in one line, whatever it names."""
        connection = session.connection()
        held = connection.connection.driver_connection
        if isinstance(held, sqlite3.Connection) and not held.in_transaction:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    @contextmanager
    def claimed(self, what: str) -> Iterator[bool]:
        """Always: one server or one batch holds the folder, whose processes each send their own."""
        yield True

    def _require_usable(self) -> None:
        if _identity(self._path) != self._file:
            raise FileNotFoundError("The database was removed or replaced while it was open.")


def upgrade_file(engine: Engine, path: Path, revision: str = "head") -> None:
    """Run the migrations that the file has not seen; one process at a time.

    Raises:
        RecordStoreError: a newer version has written it.
    """
    lock = FileLock(f"{path}.lock", timeout=MIGRATION_LOCK_TIMEOUT_S, mode=PRIVATE_FILE)
    with lock, engine.begin() as connection:
        upgrade(connection, revision)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
