# SPDX-License-Identifier: Apache-2.0
"""``medreasoner records``: where the records of a site are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from monailabel_app.settings import ADDRESS_VARIABLES

records = typer.Typer(
    help="Where the records of a site are kept.", no_args_is_help=True, add_completion=False
)


@records.callback()
def _group() -> None:
    """Let ``move`` be named, though it is the only one."""


@records.command()
def move(
    records: Annotated[Path, typer.Option(help="Folder of the records, with records.sqlite.")],
    records_database: Annotated[
        str,
        typer.Option(
            envvar=ADDRESS_VARIABLES["records_database"],
            help="Empty PostgreSQL database, e.g. "
            "postgresql+psycopg://medreasoner@db.example/medreasoner.",
        ),
    ],
) -> None:
    """Move the records of a folder from SQLite to PostgreSQL; masks and labels stay in the folder.

    The server must be stopped. The old file stays as records.sqlite.moved.
    """
    from monailabel_app.common.database_address import shown_database
    from monailabel_app.site.opening import move_to_database

    moved = move_to_database(records, records_database)
    said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in moved.rows.items())
    console = Console()
    console.print(
        f"Moved to {shown_database(records_database)}: {said}.", highlight=False, soft_wrap=True
    )
