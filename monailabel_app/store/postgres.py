# SPDX-License-Identifier: Apache-2.0
"""The records in PostgreSQL, for several workers that share it, the PACS and the files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from monailabel_app.common.database_address import checked_database
from monailabel_app.common.extras import needs_extra
from monailabel_app.common.records_mark import write_mark
from monailabel_app.store.database import Database
from monailabel_app.store.faults import reading
from monailabel_app.store.folder_mark import require_own_folder
from monailabel_app.store.migrating import MIGRATION_LOCK_TIMEOUT_S, upgrade

# Who waits for a lock or a connection stands in a line, which many workers make longer.
_WAIT_S = 20.0
# The server notices within a minute that a worker's machine is gone, and frees what it claimed.
_SESSION_MS = {
    "lock_timeout": 1000 * _WAIT_S,
    "idle_in_transaction_session_timeout": 300_000,
}
_SESSION_KEEPALIVES = {
    "tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3,
}  # fmt: skip
_CLIENT = {
    "connect_timeout": 3, "application_name": "medreasoner", "tcp_user_timeout": 30_000,
    "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
}  # fmt: skip


class PostgresDatabase(Database):
    """One PostgreSQL database; a connection that has been lost is replaced at the next use."""

    @classmethod
    def open(cls, address: str, folder: Path) -> PostgresDatabase:
        """Connect, and bring tables and folder together.

        Args:
            address: as :func:`.checked_database` takes it.
            folder: of the files that the records name.

        Raises:
            MissingExtraError: the driver is not installed.
            SettingsError: the address cannot be used, or the folder belongs to other records.
            RecordStoreError: a newer version has written the records.
        """
        database = cls.connect(address)
        try:
            with database.engine.begin() as connection:
                wait_for_turn(connection)
                upgrade(connection)
                mark = require_own_folder(connection, folder, address)
        except BaseException:
            database.close()
            raise
        write_mark(folder, mark)
        return database

    @classmethod
    def connect(cls, address: str) -> PostgresDatabase:
        """The database as it is.

        Raises:
            MissingExtraError: the driver is not installed.
            SettingsError: the address cannot be used.
        """
        with needs_extra("psycopg", "postgres"):
            import psycopg  # noqa: F401 - for the sentence about the extra

        values = {**{k: f"{v:.0f}" for k, v in _SESSION_MS.items()}, **_SESSION_KEEPALIVES}
        options = " ".join(f"-c {name}={value}" for name, value in values.items())
        engine = create_engine(
            checked_database(address),
            connect_args={**_CLIENT, "options": options},
            pool_pre_ping=True,
            pool_timeout=_WAIT_S,
            hide_parameters=True,
        )
        return cls(engine)

    def stand_alone(self, session: Session, what: str) -> None:
        """A lock that the transaction's end frees; waiting for it has a limit."""
        session.execute(select(func.pg_advisory_xact_lock(_lock_number(what))))

    @contextmanager
    def claimed(self, what: str) -> Iterator[bool]:
        """A lock of a connection of its own, which ends with the connection."""
        number = _lock_number(what)
        with reading():
            engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            connection = engine.connect()
        with connection:
            with reading():
                is_ours = connection.scalar(select(func.pg_try_advisory_lock(number)))
            try:
                yield bool(is_ours)
            finally:
                if is_ours:
                    _unlock(connection, number)


def _unlock(connection: Connection, number: int) -> None:
    try:
        connection.execute(select(func.pg_advisory_unlock(number)))
    except SQLAlchemyError:
        # The lock went with the connection, or goes with it now.
        connection.invalidate()


def wait_for_turn(connection: Connection) -> None:
    """Let one worker at a time change the tables; the transaction's end frees the next."""
    connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_LOCK_TIMEOUT_S:.0f}s'"))
    connection.execute(select(func.pg_advisory_xact_lock(_lock_number("migration"))))


def _lock_number(what: str) -> int:
    """A number of 64 bits that stands for the text; the texts hold no patient's name."""
    digest = hashlib.sha256(f"medreasoner {what}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
