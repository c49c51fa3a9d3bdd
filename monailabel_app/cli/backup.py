# SPDX-License-Identifier: Apache-2.0
"""``medreasoner backup`` and ``medreasoner restore``: a site's records and models in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from monailabel_app.cli.options import RecordsOption
from monailabel_app.cli.places import usable_file

console = Console()


def backup(
    studies: Annotated[
        str, typer.Argument(help="Folder of studies, or the address of a DICOMweb server.")
    ],
    out: Annotated[Path, typer.Option(help="New file for the backup.", callback=usable_file)],
    records: RecordsOption = None,
) -> None:
    """Save records, labels, masks, results and the site's own models, also while the server runs.

    The images are not in it. The file tells of patients as the records do: keep it as safe.
    """
    from medreasoner_infer.home import models_folder
    from monailabel_app.site.backup import links_within, require_records, write_backup
    from monailabel_app.site.paths import SitePaths, require_studies

    require_studies(studies)
    folder = SitePaths.of(studies, records).data_dir
    require_records(folder)
    manifest = write_backup(folder, models_folder(), out)
    size = sum(file.size for file in manifest.files.values())
    console.print(Text(f"wrote {out}: {len(manifest.files)} files, {size} bytes"), soft_wrap=True)
    for link in links_within(folder, models_folder()):
        console.print(Text(f"{link} is a link; what it leads to is not saved."), soft_wrap=True)
    if not manifest.has_database:
        console.print("No records.sqlite is there. Records in PostgreSQL are saved by pg_dump.")


def restore(
    file: Annotated[Path, typer.Argument(help="The backup.", dir_okay=False)],
    studies: Annotated[
        str, typer.Option(help="Folder of studies, or the address of a DICOMweb server.")
    ],
    records: Annotated[
        Path | None,
        typer.Option(help="Folder of the records, if the server was given one.", file_okay=False),
    ] = None,
    without_models: Annotated[
        bool, typer.Option("--without-models", help="Leave the site's own models as they are.")
    ] = False,
) -> None:
    """Put a backup back; every file is compared with its hash, and nothing is overwritten."""
    from medreasoner_infer.home import models_folder
    from monailabel_app.site.paths import SitePaths, require_studies
    from monailabel_app.site.restore import restore_backup

    require_studies(studies)
    paths = SitePaths.of(studies, records)
    manifest = restore_backup(file, paths.data_dir, None if without_models else models_folder())
    said = f"restored {len(manifest.files)} files of {manifest.created_at} into {paths.data_dir}"
    console.print(Text(said), soft_wrap=True)
