# SPDX-License-Identifier: Apache-2.0
"""``medreasoner history``: what was asked about a study, shown from its archive alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from medreasoner_infer.types import OUTCOME_WORDS
from monailabel_app.cli.options import RecordsOption
from monailabel_app.cli.places import OverwriteOption, replaceable_answers, usable_folder

if TYPE_CHECKING:
    from monailabel_app.dicom.archive import ResultArchive
    from monailabel_app.dicom.history import StudyHistory
    from monailabel_app.dicom.results import StoredResult


def history(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    studies: Annotated[
        str, typer.Option(help="Folder of studies, or the address of a DICOMweb server.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for answer, mask and picture of each record; none if not given.",
            callback=usable_folder,
        ),
    ] = None,
    records: RecordsOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """List what was asked about a study and what readers made of it; redraw it with --out.

    Files of an earlier answer are replaced, any other of these names only with --overwrite.
    Exit status: 1 where the archive holds no record of the study, or one that cannot be read.
    """
    from monailabel_app.dicom.history import read_record

    replaceable_answers(out, overwrite)
    found = read_record(_archive(studies, records), study)
    console = Console()
    _show(found, console)
    if out is not None:
        for number, result in enumerate(found.results, start=1):
            for path in _redraw(result, out, number):
                console.print(Text(f"wrote {path}"), soft_wrap=True)
    if found.unreadable or not found.results:
        raise typer.Exit(1)


def _archive(studies: str, records: Path | None) -> ResultArchive:
    from monailabel_app.common.privacy import quiet_request_logs
    from monailabel_app.site.opening import open_archive
    from monailabel_app.site.paths import SitePaths, require_studies

    require_studies(studies)
    quiet_request_logs()
    return open_archive(SitePaths.of(studies, records))


def _show(found: StudyHistory, console: Console) -> None:
    table = Table("", Column("asked", no_wrap=True), "question", "target", "outcome", "version")
    table.add_column("size", no_wrap=True)
    for number, result in enumerate(found.results, start=1):
        record = result.record
        decision = record.decision
        outcome = "" if decision is None else decision.outcome.value
        if decision is not None and decision.reason:
            outcome += f": {decision.reason}"
        table.add_row(
            str(number),
            f"{record.created_at:%Y-%m-%d %H:%M}",
            Text(record.query or "(segmented by prompts)"),
            OUTCOME_WORDS[record.outcome],
            Text(outcome),
            str(result.header.version),
            _size(result),
        )
    console.print(table if found.results else "The archive holds no record of this study.")
    for sentence in found.unreadable:
        console.print(Text.assemble(("Not shown: ", "yellow"), sentence))


def _size(result: StoredResult) -> str:
    mask = result.record.result.mask
    if not result.mask_ijk.any():
        return ""
    return (
        f"{mask.voxels} voxels" if mask.volume_mm3 is None else f"{mask.volume_mm3 / 1000:.1f} cm³"
    )


def _redraw(result: StoredResult, out: Path, number: int) -> tuple[Path, ...]:
    from medreasoner_infer.output import write_result

    shown, decision = result.record.result, result.record.decision
    if decision is not None and decision.outcome.value == "rejected":
        said = f"The reader rejected this answer: {decision.reason}"
        shown = replace(shown, warnings=(*shown.warnings, said))
    return write_result(
        shown, result.mask_ijk, result.source.volume, out, suffix=f"_{number}"
    ).paths
