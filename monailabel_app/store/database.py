# SPDX-License-Identifier: Apache-2.0
"""Opening the SQLite database: connection settings and migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from filelock import FileLock
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session, sessionmaker

from monailabel_app.common.private_files import PRIVATE_FILE, private_file
from monailabel_app.store.faults import reading

# How long a request waits for another process that writes, and for a free connection.
BUSY_TIMEOUT_S = 3.0
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK_TIMEOUT_S = 60.0


def open_database(path: Path) -> Engine:
    """Open the database at ``path``, make it if needed, and bring it up to date.

    Write-ahead logging lets readers read while one writes and keeps every committed record when
    the process dies; it needs a local disk, not a network share.
    """
    # SQLite gives its journals the rights of the database.
    private_file(path)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_S},
        pool_timeout=BUSY_TIMEOUT_S,
    )
    event.listen(engine, "connect", _configure)
    upgrade(engine, path)
    return engine


class Database:
    """Sessions on one database file, whose faults are typed.

    SQLite goes on writing to a file that has been removed; here that is a fault.
    """

    def __init__(self, engine: Engine, path: Path) -> None:
        self._sessions = sessionmaker(engine, expire_on_commit=False)
        self._path = path
        self._file = _identity(path)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that reads.

        Raises:
            RecordStoreError: the database cannot be read.
        """
        with reading():
            self._require_file()
            with self._sessions() as session:
                yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction, committed at the end; call it within :func:`.faults.recording`.

        Raises:
            OSError: the database's file is not there any more.
        """
        self._require_file()
        with self._sessions.begin() as session:
            yield session

    def _require_file(self) -> None:
        if _identity(self._path) != self._file:
            raise FileNotFoundError("The database was removed or replaced while it was open.")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def upgrade(engine: Engine, path: Path, revision: str = "head") -> None:
    """Run the migrations that the database has not seen; one process at a time."""
    lock = FileLock(f"{path}.lock", timeout=_MIGRATION_LOCK_TIMEOUT_S, mode=PRIVATE_FILE)
    with lock, engine.begin() as connection:
        config = migration_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def migration_config() -> Config:
    """Alembic's configuration, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
