# SPDX-License-Identifier: Apache-2.0
"""``medreasoner batch``: a list of questions put to a folder or a PACS of studies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monailabel_app.batch.results import Results
from monailabel_app.cli.options import (
    DEFAULT_MODEL,
    DeviceOption,
    OutOption,
    ReasonerOption,
    ReasonerUrlOption,
    SegmenterOption,
    show_set_aside,
)
from monailabel_app.cli.progress import shown_progress

if TYPE_CHECKING:
    from monailabel_app.batch.engines import Engine
    from monailabel_app.batch.report import Report
    from monailabel_app.batch.work import WorkerSettings

console = Console()
_MOST_FAULTS = 20


def batch(
    queries: Annotated[
        Path, typer.Argument(help="Questions: CSV as spreadsheets write it, or YAML.")
    ],
    studies: Annotated[
        str, typer.Option(help="Folder of studies, or the address of a DICOMweb server.")
    ],
    out: OutOption,
    reasoner: ReasonerOption = DEFAULT_MODEL,
    segmenter: SegmenterOption = DEFAULT_MODEL,
    reasoner_url: ReasonerUrlOption = None,
    device: DeviceOption = "auto",
    results: Annotated[
        Results,
        typer.Option(
            help="files: as ask writes them; dataset: drafts among the labels of the studies; seg: "
            "segmentation and report in the PACS or the folder of DICOM results, not reviewed."
        ),
    ] = Results.FILES,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that answer, each with its own models.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster, auto for the one that runs here, or local for an "
            "instance that only this machine reaches."
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Questions per minute at most, of all processes together."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many answers, the first ones of the list.")
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the app's records, if it was given one; files need none.",
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Ask each question of each image once; an interrupted batch goes on by the same command.

    The exit status is 1 if a study could not be read or asked about; the report tells which.
    """
    from monailabel_app.batch.questions import read_questions
    from monailabel_app.batch.report import write_report
    from monailabel_app.batch.running import Batch, run_batch
    from monailabel_app.batch.work import WorkerSettings
    from monailabel_app.common.privacy import quiet_request_logs
    from monailabel_app.site.paths import SitePaths, require_studies

    quiet_request_logs()
    questions = read_questions(queries)
    require_studies(studies)
    paths = SitePaths.of(studies, records)
    settings = WorkerSettings(
        paths.studies, paths.data_dir, out.absolute(), results, reasoner, segmenter, device,
        reasoner_url, _threads(processes or 1),
    )  # fmt: skip
    engine = _engine(settings, processes, ray)
    asked = Batch(questions, settings, engine, limit, rate, own_records=records is not None)
    with shown_progress(console, "Answers") as on_done:
        report = run_batch(asked, on_done)
    paths_written = write_report(report, out)
    _show(report)
    for path in paths_written:
        console.print(Text(f"wrote {path}"), soft_wrap=True)
    if report.has_failed:
        raise typer.Exit(1)


def _engine(settings: WorkerSettings, processes: int | None, ray: str | None) -> Engine:
    """Where the work is done.

    Raises:
        typer.BadParameter: results that the records hold are asked of a cluster.
        MissingExtraError: Ray is not installed.
    """
    from monailabel_app.batch.engines import LOCAL, Processes, Ray

    if ray is None:
        return Processes(settings, processes or 1)
    if ray != LOCAL and settings.results is not Results.FILES:
        raise typer.BadParameter(
            "the records of a site lie on one machine, so a cluster takes --results files; give "
            "--ray local, or --processes",
            param_hint="--ray",
        )
    return Ray(settings, ray, processes)


def _threads(processes: int) -> int | None:
    """Threads of each process that together fill the machine, unless the environment says them."""
    if processes == 1 or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, len(os.sched_getaffinity(0)) // processes)


def _show(report: Report) -> None:
    table = Table(show_header=False, title="Batch", title_justify="left")
    for name, counted in _counted(report):
        table.add_row(Text(name), Text(str(counted)))
    console.print(table)
    faults = [pair for pair in report.pairs if pair.failed is not None]
    for pair in faults[:_MOST_FAULTS]:
        said = f"row {pair.question.row}, {pair.image_id}: {pair.reason}"
        console.print(Text.assemble(("Failed: ", "bold red"), said), soft_wrap=True)
    if len(faults) > _MOST_FAULTS:
        console.print(f"{len(faults) - _MOST_FAULTS} more are in the report.")
    for sentence in report.not_archived[:_MOST_FAULTS]:
        console.print(Text.assemble(("Not archived: ", "bold red"), sentence), soft_wrap=True)
    show_set_aside(report.set_aside[:_MOST_FAULTS], console)


def _counted(report: Report) -> Iterator[tuple[str, object]]:
    yield "answered", f"{report.outcomes.total()} of {len(report.pairs)}"
    for outcome in ("present", "absent", "not_understood"):
        yield f"  {outcome.replace('_', ' ')}", report.outcomes[outcome]
    for name, count in sorted(report.left_out.items()):
        yield f"left out, other {name.replace('_', ' ')}", count
    for kind, count in report.failed.most_common():
        yield f"failed, {kind}", count
    if report.set_aside:
        yield "studies set aside", len(report.set_aside)
    if report.duplicates:
        yield "asked twice by the list", report.duplicates
    for state, count in sorted(report.archived.items()):
        yield f"archive: {state}", count
    if report.outcomes:
        yield "seconds, median", report.seconds(0.5)
        yield "seconds, 95 % within", report.seconds(0.95)
