# SPDX-License-Identifier: Apache-2.0
"""Opening the SQLite database: connection settings and migrations."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from filelock import FileLock
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

BUSY_TIMEOUT_S = 30.0
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK_TIMEOUT_S = 60.0


def open_database(path: Path) -> Engine:
    """Open the database at ``path``, make it if needed, and bring it up to date.

    Write-ahead logging lets readers read while one writes and keeps every committed record when
    the process dies; it needs a local disk, not a network share.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_TIMEOUT_S}
    )
    event.listen(engine, "connect", _configure)
    upgrade(engine, path)
    return engine


def upgrade(engine: Engine, path: Path, revision: str = "head") -> None:
    """Run the migrations that the database has not seen; one process at a time."""
    with FileLock(f"{path}.lock", timeout=_MIGRATION_LOCK_TIMEOUT_S), engine.begin() as connection:
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
