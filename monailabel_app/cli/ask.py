# SPDX-License-Identifier: Apache-2.0
"""``medreasoner ask`` and ``medreasoner segment``: the pipeline without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from medreasoner_infer.request import AskRequest, SegmentRequest, SliceSelection
from medreasoner_infer.types import SlicePrompt
from monailabel_app.cli.checks import checks_as_lines
from monailabel_app.cli.dialogue import Answered, converse, read_before, require_dialogue
from monailabel_app.cli.doubt import doubt_lines
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
    parse_box,
    parse_point,
    parse_position,
)
from monailabel_app.cli.places import OverwriteOption, replaceable_answers

if TYPE_CHECKING:
    from medreasoner_infer.imaging import Volume
    from medreasoner_infer.output import ResultFiles
    from medreasoner_infer.result import InferenceResult

console = Console()
ImageArgument = Annotated[
    Path, typer.Argument(help="NIfTI, NRRD, MHA, a DICOM file or series folder, PNG or JPEG.")
]


def ask(
    image: ImageArgument,
    question: Annotated[str, typer.Argument(help="What a clinician would ask.")],
    plane: PlaneOption = None,
    slice_index: SliceOption = None,
    position: Annotated[
        str | None, typer.Option(help="A patient position x,y,z in LPS mm instead of --slice.")
    ] = None,
    window: WindowOption = None,
    propagate: Annotated[
        bool, typer.Option("--propagate", help="Carry the mask through the volume.")
    ] = False,
    samples: Annotated[
        int, typer.Option(help="Answers drawn; more than one tells where the model doubts.")
    ] = 1,
    removal_test: Annotated[
        bool,
        typer.Option(
            "--removal-test",
            help="Ask again without the region that the answer points to; costs a second answer.",
        ),
    ] = False,
    about: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="answer.json of an earlier question on this image, which this one follows up on.",
        ),
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option(
            help="A further question, which may refer to the answer before it; may be repeated."
        ),
    ] = None,
    out: OutOption = Path("medreasoner_output"),
    overwrite: OverwriteOption = False,
    reasoner: ReasonerOption = DEFAULT_MODEL,
    segmenter: SegmenterOption = DEFAULT_MODEL,
    reasoner_url: ReasonerUrlOption = None,
    device: DeviceOption = "auto",
    modality: ModalityOption = None,
    series: SeriesOption = None,
) -> None:
    """Ask a clinical question of an image; writes answer.json, the mask and overlay.png.

    A question that was not understood has no mask.

    With several answers agreement.nii.gz is written, too: in how many per cent of the readings each
    voxel lies in the target. A list of targets is asked one by one: answer_1.json and so on,
    listed in answers.json. So are the questions of a dialogue: "where is the spleen?" --then "how
    large is it?".

    Files of an earlier answer are replaced, any other of these names only with --overwrite.
    """
    replaceable_answers(out, overwrite)
    before = None if about is None else read_before(about)
    if then:
        require_dialogue([question, *then])
    position_lps_mm = None if position is None else parse_position(position, "--position")
    request = AskRequest(
        question,
        SliceSelection(plane, slice_index, position_lps_mm, window),
        propagate=propagate,
        samples=samples,
        about=None if before is None else before.target,
        removal_test=removal_test,
    )
    volume = _load(image, modality, series)
    from medreasoner_infer.hooks import Hooks
    from medreasoner_infer.language import questions_of
    from medreasoner_infer.pipeline import Pipeline

    pipeline = Pipeline.from_registry(reasoner, segmenter, device=device, reasoner_url=reasoner_url)

    first = None if before is None else before.result(volume)

    def answered(text: str, earlier: InferenceResult | None = first) -> InferenceResult:
        about = request.about if earlier is first else None
        asked = replace(request, query=text, earlier=earlier, about=about)
        with _progress() as report:
            result = pipeline.ask(volume, asked, Hooks(progress=report))
        _show(result)
        return result

    questions = questions_of(question)
    if then:
        _ask_on((question, *then), answered, first, volume, out)
    elif len(questions) == 1:
        _write(answered(question), volume, out)
    else:
        _ask_in_turn(question, questions, answered, volume, out)


def _ask_in_turn(
    question: str,
    questions: tuple[str, ...],
    answered: Callable[[str], InferenceResult],
    volume: Volume,
    out: Path,
) -> None:
    """Answer each, with files of its own; those that are there are listed, also if one fails."""
    console.print(f"The question names {len(questions)} targets; each is asked by itself.")
    listed = _Listed(question, volume, out)
    for number, text in enumerate(questions, start=1):
        listed.tell(number, text)
        listed.keep(answered(text), number)
    listed.close()


def _ask_on(
    questions: tuple[str, ...],
    answered: Answered,
    first: InferenceResult | None,
    volume: Volume,
    out: Path,
) -> None:
    """A dialogue, with files of its own for each answer; ``first`` was given before it."""
    listed = _Listed(questions[0], volume, out)
    converse(questions, answered, listed.tell, listed.keep, first)
    listed.close()


class _Listed:
    """Several answers as files, and the list of them."""

    def __init__(self, question: str, volume: Volume, out: Path) -> None:
        self._question, self._volume, self._out = question, volume, out
        self._rows: list[dict[str, object]] = []
        self._summary: Path | None = None

    def tell(self, number: int, text: str) -> None:
        console.print(Text(f"{number}. {text}", "bold"))

    def keep(self, result: InferenceResult, number: int) -> None:
        from medreasoner_infer.output import write_summary

        files = _write(result, self._volume, self._out, suffix=f"_{number}")
        self._rows.append(
            {
                "question": result.query,
                "present": result.present,
                "outcome": result.outcome,
                "answer": files.answer.name,
                "mask": None if files.mask is None else files.mask.name,
                "overlay": files.overlay.name,
            }
        )
        self._summary = write_summary(self._question, self._rows, self._out)

    def close(self) -> None:
        console.print(Text(f"wrote {self._summary}"), soft_wrap=True)


def segment(
    image: ImageArgument,
    box: Annotated[
        str | None, typer.Option(help="x1,y1,x2,y2 in pixels of the displayed slice.")
    ] = None,
    point: Annotated[
        list[str] | None, typer.Option(help="x,y inside the target; may be repeated.")
    ] = None,
    background: Annotated[
        list[str] | None, typer.Option(help="x,y outside the target; may be repeated.")
    ] = None,
    plane: PlaneOption = None,
    slice_index: SliceOption = None,
    window: WindowOption = None,
    propagate: Annotated[
        bool, typer.Option("--propagate", help="Carry the mask through the volume.")
    ] = False,
    out: OutOption = Path("medreasoner_output"),
    overwrite: OverwriteOption = False,
    segmenter: SegmenterOption = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    modality: ModalityOption = None,
    series: SeriesOption = None,
) -> None:
    """Run the segmenter alone from a box and points; writes, and replaces, as ask does."""
    replaceable_answers(out, overwrite)
    positive = [parse_point(text, "--point") for text in point or ()]
    negative = [parse_point(text, "--background") for text in background or ()]
    prompt = SlicePrompt(
        None if box is None else parse_box(box, "--box"),
        (*positive, *negative),
        (1,) * len(positive) + (0,) * len(negative),
    )
    request = SegmentRequest(
        SliceSelection(plane, slice_index, window=window), prompt, propagate=propagate
    )
    volume = _load(image, modality, series)
    from medreasoner_infer.hooks import Hooks
    from medreasoner_infer.pipeline import Pipeline

    pipeline = Pipeline.from_registry(segmenter=segmenter, device=device)
    with _progress() as report:
        result = pipeline.segment(volume, request, Hooks(progress=report))
    _show(result)
    _write(result, volume, out)


def _load(image: Path, modality: str | None, series_uid: str | None) -> Volume:
    """Read the image; of a folder with several series the one that is named, else the largest."""
    from medreasoner_infer.imaging import load_volume

    if image.is_dir():
        _list_series(image, series_uid)
    with console.status("Reading the image"):
        return load_volume(image, modality=modality, series_uid=series_uid)


def _list_series(folder: Path, series_uid: str | None) -> None:
    """Show what can be named with --series, unless one is named or there is no choice.

    Raises:
        typer.BadParameter: the one that is named is not there.
    """
    from monailabel_app.studies.dicom_folder import SeriesFinder

    found = {series.series_uid: series for series in SeriesFinder(folder).find()}
    if series_uid is not None and series_uid not in found:
        known = "".join(f"\n  {uid}" for uid in found) or " no DICOM series"
        raise typer.BadParameter(f"the folder holds:{known}", param_hint="--series")
    if series_uid is None and len(found) > 1:
        console.print(f"The folder holds {len(found)} series, to be named with --series:")
        for uid, series in found.items():
            console.print(Text(f"  {uid} {series.modality or ''}".rstrip()), soft_wrap=True)


@contextmanager
def _progress() -> Iterator:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {"work": bars.add_task("Loading the models and reading the slice", total=None)}

        def report(stage: str, done: int, total: int) -> None:
            bars.update(tasks["work"], visible=False)
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def _show(result: InferenceResult) -> None:
    if result.reasoning is not None:
        from medreasoner_infer.result import MEASURE

        heading = "Sizes " if result.kind == MEASURE else "Reasoning "
        console.print(Text.assemble((heading, "bold"), result.reasoning))
    if result.checks is not None:
        for line in checks_as_lines(result.checks, result.reasoning or ""):
            console.print(line)
    console.print(Text(result.slice_choice.explanation))
    if result.outcome == "absent":
        console.print(Text("The target is not present on this slice.", "bold yellow"))
    if result.outcome == "not_understood":
        said = "The question was not understood; nothing is said about a target."
        console.print(Text(said, "bold magenta"))
    if result.doubt is not None:
        for line in doubt_lines(result.doubt):
            console.print(line)
    for warning in result.warnings:
        console.print(Text.assemble(("Note: ", "yellow"), warning))
    models = [model for model in (result.reasoner, result.segmenter) if model is not None]
    for notice in dict.fromkeys(model.notice for model in models if model.notice):
        console.print(Text(notice, "dim"))


def _write(result: InferenceResult, volume: Volume, out: Path, *, suffix: str = "") -> ResultFiles:
    from medreasoner_infer.output import write_result

    files = write_result(
        result, result.mask_ijk, volume, out, suffix=suffix, readings_ijk=result.readings_ijk
    )
    for path in files.paths:
        console.print(Text(f"wrote {path}"), soft_wrap=True)
    if files.mask is None:
        console.print("No mask was written: an empty one would say that the target is not there.")
    return files
