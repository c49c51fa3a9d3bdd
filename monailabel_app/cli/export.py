# SPDX-License-Identifier: Apache-2.0
"""``medreasoner export``: approved labels as a data set for fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from medreasoner_training.samples import Manifest


def export(
    studies: Annotated[
        str, typer.Option(help="Folder of studies, or the address of a DICOMweb server.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for the data set.")],
    val_share: Annotated[
        float, typer.Option(help="Share of the patients that validate; 0 makes no such split.")
    ] = 0.2,
    max_slices: Annotated[int, typer.Option(help="Slices per target.")] = 8,
    max_absent_slices: Annotated[
        int, typer.Option(help="Slices per target on which it is absent.")
    ] = 2,
    components: Annotated[
        str, typer.Option(help="all parts of a section in one box, or the largest only.")
    ] = "all",
    model_size: Annotated[
        int, typer.Option(help="Side of the square image that the reasoner reads, in pixels.")
    ] = 840,
    records: Annotated[
        Path | None, typer.Option(help="Folder of the app's records, if it was given a data_dir.")
    ] = None,
) -> None:
    """Write the labels that readers approved as a data set without patient identifiers."""
    from medreasoner_training.samples import Components, SampleSettings
    from monailabel_app.export.exporting import ExportSettings, export_studies

    if components not in [member.value for member in Components]:
        raise typer.BadParameter(f"{components!r}; expected all or largest.")
    samples = SampleSettings(
        model_size, max_slices, max_absent_slices, components=Components(components)
    )
    console = Console()
    columns = (TextColumn("Approved labels"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("export", total=None)
        dataset = export_studies(
            studies, out, ExportSettings(val_share, samples), data_dir=records,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    _show(dataset.manifest, console)
    console.print(Text(f"{dataset.manifest.rows} samples written to {out}"))


def _show(manifest: Manifest, console: Console) -> None:
    table = Table("split", "label", "present", "absent", title="Samples")
    for split, counts in manifest.splits.items():
        for name in sorted({*counts.present, *counts.absent}):
            present, absent = counts.present.get(name, 0), counts.absent.get(name, 0)
            table.add_row(split, Text(name), str(present), str(absent))
    console.print(table)
    if manifest.left_out:
        table = Table("label", "reason", "count", title="Left out")
        for entry in manifest.left_out:
            table.add_row(Text(entry.label_name), Text(entry.reason), str(entry.count))
        console.print(table)
