# SPDX-License-Identifier: Apache-2.0
"""A data set of questions as several commands are given it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from monailabel_app.cli.progress import shown_progress

if TYPE_CHECKING:
    from medreasoner_training.evaluation.rows import RowSource

QuestionsOption = Annotated[
    Path | None, typer.Option(help="CSV or parquet table of questions about a folder's images.")
]
SplitOption = Annotated[
    str | None,
    typer.Option(help="Split to take, or all; test or validation by default, if there is one."),
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="So many questions, spread evenly over the data.")
]


def opened_rows(
    data: str,
    folder: Path,
    console: Console,
    *,
    questions: Path | None,
    split: str | None,
    records: Path | None,
) -> RowSource:
    """The rows of a data set, or of a site's approved masks.

    Args:
        data: as ``open_rows`` takes it, or a site's studies: folder or DICOMweb address.
        folder: that a site's masks are exported into; what is there already is kept.
        console: where the export and the number of questions are shown.
        questions: table of questions about a folder's images.
        split: to take.
        records: folder of a site's records.

    Raises:
        MedReasonerError: data or studies cannot be read.
    """
    from medreasoner_training.evaluation import open_rows
    from medreasoner_training.evaluation.running import DATA_SET_NAME
    from monailabel_app.export.for_evaluation import approved_data_set, is_site

    if is_site(data):
        with shown_progress(console, "Approved labels") as on_exported:
            data = str(approved_data_set(data, folder / DATA_SET_NAME, records, on_exported))
    source = open_rows(data, questions=questions, split=split)
    console.print(f"{source.count} questions, split {source.split}")
    return source
