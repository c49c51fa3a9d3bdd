# SPDX-License-Identifier: Apache-2.0
"""``medreasoner prior``: the same question about two examinations of a patient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medreasoner_infer.request import AskRequest, SliceSelection
from monailabel_app.cli.options import (
    DEFAULT_MODEL,
    DeviceOption,
    ModalityOption,
    OutOption,
    PlaneOption,
    ReasonerOption,
    ReasonerUrlOption,
    SegmenterOption,
    SeriesOption,
    SliceOption,
    WindowOption,
    parse_position,
)
from monailabel_app.cli.places import OverwriteOption, replaceable_answers, replaceable_in

if TYPE_CHECKING:
    from medreasoner_infer.priors import Comparison, Examination
    from monailabel_app.dicom.source import SourceSeries

console = Console()
_DICOM_NAMES = ("report.dcm", "segmentation_current.dcm", "segmentation_prior.dcm")
_IMAGE = "NIfTI, NRRD, MHA, a DICOM file or series folder."


def prior(
    current: Annotated[Path, typer.Argument(help=f"The later examination: {_IMAGE}")],
    earlier: Annotated[
        Path, typer.Argument(metavar="PRIOR", help=f"The earlier one of the same patient: {_IMAGE}")
    ],
    question: Annotated[str, typer.Argument(help="What a clinician would ask of both.")],
    plane: PlaneOption = None,
    slice_index: SliceOption = None,
    position: Annotated[
        str | None,
        typer.Option(help="A patient position x,y,z in LPS mm of CURRENT instead of --slice."),
    ] = None,
    window: WindowOption = None,
    samples: Annotated[
        int, typer.Option(help="Answers drawn of each; more widen the uncertainty if they scatter.")
    ] = 1,
    same_patient: Annotated[
        bool,
        typer.Option("--same-patient", help="Both are of one patient, where no header tells."),
    ] = False,
    same_space: Annotated[
        bool,
        typer.Option("--same-space", help="Patient positions of both agree; do not register."),
    ] = False,
    dicom: Annotated[
        bool,
        typer.Option("--dicom", help="Write the report and both masks as DICOM, too."),
    ] = False,
    out: OutOption = Path("medreasoner_output"),
    overwrite: OverwriteOption = False,
    reasoner: ReasonerOption = DEFAULT_MODEL,
    segmenter: SegmenterOption = DEFAULT_MODEL,
    reasoner_url: ReasonerUrlOption = None,
    device: DeviceOption = "auto",
    modality: ModalityOption = None,
    series: SeriesOption = None,
    prior_series: Annotated[
        str | None, typer.Option(help="Series Instance UID in the folder of PRIOR.")
    ] = None,
) -> None:
    """Ask CURRENT and PRIOR the same question, and tell what has changed between them.

    Writes both answers with masks, change.json and side_by_side.png. Files of an earlier comparison
    are replaced, any other of these names only with --overwrite.
    """
    from medreasoner_infer.pipeline import Pipeline
    from medreasoner_infer.priors import compare
    from medreasoner_infer.priors.telling import (
        CHANGE_NAME,
        PICTURE_NAME,
        is_change,
        write_comparison,
    )

    replaceable_answers(out, overwrite)
    replaceable_in(out, (CHANGE_NAME, PICTURE_NAME, *_DICOM_NAMES), overwrite, is_change)
    position_lps_mm = None if position is None else parse_position(position, "--position")
    selection = SliceSelection(plane, slice_index, position_lps_mm, window)
    request = AskRequest(question, selection, propagate=True, samples=samples)
    with console.status("Reading the images"):
        now = _examination(current, modality, series)
        then = _examination(earlier, modality, prior_series)
    sources = _sources(now, then) if dicom else ()
    pipeline = Pipeline.from_registry(reasoner, segmenter, device=device, reasoner_url=reasoner_url)
    with console.status("Registering, asking and measuring both"):
        found = compare(
            lambda volume, asked, keep: keep(pipeline.ask(volume, asked)),
            now,
            then,
            request,
            segment=pipeline.segment,
            same_patient=same_patient,
            same_space=same_space,
        )
    _show(found)
    paths = write_comparison(found, now.volume, then.volume, out)
    if sources:
        paths += _write_dicom(found, *sources, out)
    for path in paths:
        console.print(Text(f"wrote {path}"), soft_wrap=True)


def _examination(path: Path, modality: str | None, series_uid: str | None) -> Examination:
    from medreasoner_infer.imaging import load_volume
    from medreasoner_infer.priors import Examination, read_facts

    volume = load_volume(path, modality=modality, series_uid=series_uid)
    return Examination(volume, read_facts(path, series_uid))


def _show(found: Comparison) -> None:
    from medreasoner_infer.priors.telling import (
        HEADINGS,
        change_rows,
        describe_alignment,
        shown_date,
    )

    told = found.told
    dates = {"prior": told.prior_date, "current": told.current_date}
    heads = [f"{name} {shown_date(dates.get(name, ''))}".strip() for name in HEADINGS]
    table = Table(*heads, box=SIMPLE, padding=(0, 1, 0, 0))
    for row in change_rows(told.change):
        table.add_row(row.name, row.before, row.after, row.change, row.verdict)
    if table.row_count:
        console.print(table)
    console.print(Text(told.change.statement, "bold"))
    console.print(Text(describe_alignment(told.alignment)))
    for warning in (*told.alignment.warnings, *told.change.cautions):
        console.print(Text.assemble(("Note: ", "yellow"), warning))
    console.print(Text("Not for clinical use.", "dim"))


def _sources(current: Examination, prior: Examination) -> tuple[SourceSeries, SourceSeries]:
    """The series that DICOM results refer to.

    Raises:
        MedReasonerError: there is no such series.
    """
    from monailabel_app.dicom.source import open_source

    return (
        open_source(current.volume.source, current.volume, current.facts.series_uid or None),
        open_source(prior.volume.source, prior.volume, prior.facts.series_uid or None),
    )


def _write_dicom(
    found: Comparison, current: SourceSeries, prior: SourceSeries, out: Path
) -> list[Path]:
    from medreasoner_infer.atomic import replacing
    from monailabel_app.dicom.change_report import change_documents

    paths = []
    for name, content in change_documents(found, current, prior).items():
        path = out / f"{name}.dcm"
        with replacing(path) as unfinished:
            unfinished.write_bytes(content)
        paths.append(path)
    return paths
