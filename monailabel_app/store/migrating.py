# SPDX-License-Identifier: Apache-2.0
"""Bringing the tables up to date, on either database."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from monailabel_app.errors import RecordStoreError

MIGRATION_LOCK_TIMEOUT_S = 60.0
_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations that the database has not seen; the caller lets one process do it.

    Raises:
        RecordStoreError: a newer version of this package has written the records.
    """
    config = migration_config()
    require_known(connection)
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def migration_config() -> Config:
    """Alembic's configuration, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def require_known(connection: Connection) -> bool:
    """Check that no newer version has written the records; nothing is changed.

    Returns:
        Whether there are tables at all.

    Raises:
        RecordStoreError: a newer version has written them.
    """
    script = ScriptDirectory.from_config(migration_config())
    known = {revision.revision for revision in script.walk_revisions()}
    there = set(MigrationContext.configure(connection).get_current_heads())
    if there - known:
        raise RecordStoreError(
            f"The records were written by a newer version of this program (revision "
            f"{', '.join(sorted(there - known))}, known here are those up to "
            f"{script.get_current_head()}). Nothing was changed; install that version here."
        )
    return bool(there)
