# SPDX-License-Identifier: Apache-2.0
"""``medreasoner export``: approved labels as a data set for fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monailabel_app.cli.options import RecordsDatabaseOption, RecordsOption, show_set_aside
from monailabel_app.cli.places import usable_folder
from monailabel_app.cli.progress import shown_progress
from monailabel_app.studies.set_aside import SetAside

if TYPE_CHECKING:
    from medreasoner_training.samples import Manifest
    from monailabel_app.export.questions import QueryWriterSettings


def export(
    studies: Annotated[
        str, typer.Option(help="Folder of studies, or the address of a DICOMweb server.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for the data set.", callback=usable_folder)],
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
    records: RecordsOption = None,
    records_database: RecordsDatabaseOption = None,
    query_writer: Annotated[
        str | None,
        typer.Option(
            help="Address of an OpenAI-compatible server at the site whose model writes the "
            "questions that no reader has asked; by default as query_writer.yaml in the folder "
            "of the records says."
        ),
    ] = None,
    query_model: Annotated[
        str | None, typer.Option(help="The query writer's model, as its server names it.")
    ] = None,
    query_writer_public: Annotated[
        bool,
        typer.Option(
            "--query-writer-public",
            help="Let the query writer be outside the site; it is told names of labels.",
        ),
    ] = False,
) -> None:
    """Write the labels that readers approved as a data set without patient identifiers."""
    from medreasoner_training.samples import Components, SampleSettings
    from monailabel_app.export.exporting import ExportSettings, export_studies

    if components not in [member.value for member in Components]:
        raise typer.BadParameter(f"{components!r}; expected all or largest.")
    samples = SampleSettings(
        model_size, max_slices, max_absent_slices, components=Components(components)
    )
    writer = _writer(query_writer, query_model, query_writer_public)
    console, aside = Console(), list[SetAside]()
    with _naming(aside, console), shown_progress(console, "Approved labels") as on_label:
        dataset = export_studies(
            studies, out, ExportSettings(val_share, samples), data_dir=records,
            database=records_database,
            progress=on_label,
            query_writer=writer, tell=aside.append,
        )  # fmt: skip
    _show(dataset.manifest, console)
    console.print(Text(f"{dataset.manifest.rows} samples written to {out}"))


@contextmanager
def _naming(aside: list[SetAside], console: Console) -> Iterator[None]:
    """Show what was set aside in the end, also where nothing was left to export."""
    try:
        yield
    finally:
        show_set_aside(aside, console)


def _writer(url: str | None, model: str | None, public: bool) -> QueryWriterSettings | None:
    from monailabel_app.export.questions import QueryWriterSettings

    if url is None and model is None:
        return None
    if url is None or model is None:
        raise typer.BadParameter("give --query-writer and --query-model together, or neither")
    return QueryWriterSettings(url, model, allow_public=public)


def _show(manifest: Manifest, console: Console) -> None:
    table = Table("split", "label", "present", "absent", title="Samples")
    for split, counts in manifest.splits.items():
        for name in sorted({*counts.present, *counts.absent}):
            present, absent = counts.present.get(name, 0), counts.absent.get(name, 0)
            table.add_row(split, Text(name), str(present), str(absent))
    console.print(table)
    counted = {
        "Left out": manifest.left_out,
        "Refused questions": manifest.refused_questions,
        "Patients": manifest.notes,
    }
    for title, entries in counted.items():
        if entries:
            table = Table("label", "reason", "count", title=title)
            for entry in entries:
                table.add_row(Text(entry.label_name), Text(entry.reason), str(entry.count))
            console.print(table)
