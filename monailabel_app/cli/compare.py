# SPDX-License-Identifier: Apache-2.0
"""``medreasoner compare``: two evaluations of the same questions against each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monailabel_app.cli.options import DeviceOption
from monailabel_app.cli.places import OverwriteOption, replaceable, usable_file

if TYPE_CHECKING:
    from medreasoner_training.evaluation.comparing import Compared, Differing
    from medreasoner_training.evaluation.differing import PicturedDifference
    from medreasoner_training.evaluation.summary import Measure
    from medreasoner_training.gate import Comparison

console = Console()
_MAKER = "medreasoner compare"
ReportArgument = Annotated[Path, typer.Argument(help="Folder that evaluate wrote.", exists=True)]


def compare(
    report_a: ReportArgument,
    report_b: ReportArgument,
    resamples: Annotated[
        int, typer.Option(min=100, help="Bootstrap samples of the intervals.")
    ] = 2000,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the comparison to this JSON file.", callback=usable_file),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a page to this file; with --data it shows pictures.", callback=usable_file
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data set of both evaluations, for pictures of where they differ most."),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Table of questions that the evaluations were given.")
    ] = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Compare two evaluations question by question; differences are the second minus the first.

    A page or JSON file of an earlier comparison is replaced, any other file only with --overwrite.
    """
    from medreasoner_infer.atomic import write_durably
    from medreasoner_training.evaluation.comparing import compare_reports
    from medreasoner_training.gate import GateConfig
    from medreasoner_training.pages import page_maker

    replaceable(html, "--html", overwrite, lambda file: page_maker(file) == _MAKER)
    replaceable(out, "--out", overwrite, _is_comparison)
    found = compare_reports(report_a, report_b, GateConfig(resamples=resamples))
    console.print(f"{found.questions} questions with a target; {found.left_out} of one run only.")
    console.print("In percent, distances in pixels; the difference is the second minus the first.")
    console.print(_table("measure", found.overall))
    console.print(_table("Dice of", found.by_group))
    _tell("gains", found.gained)
    _tell("loses", found.lost)
    console.print(_outcomes(found))
    if out is not None:
        content = json.dumps(asdict(found), indent=1, ensure_ascii=False, allow_nan=False)
        write_durably(out, content + "\n")
        console.print(Text(f"wrote {out}"), soft_wrap=True)
    if html is not None:
        _write_page(found, (report_a, report_b), html, data, questions, device)
        console.print(Text(f"wrote {html}"), soft_wrap=True)


def _is_comparison(file: Path) -> bool:
    """Whether a file is what ``--out`` wrote before."""
    from medreasoner_infer.earlier_files import is_json_with
    from medreasoner_training.evaluation.comparing import Compared

    return is_json_with(file, {each.name for each in fields(Compared)})


def _write_page(
    found: Compared,
    reports: tuple[Path, Path],
    html: Path,
    data: str | None,
    questions: Path | None,
    device: str,
) -> None:
    """The page, with pictures where the data set is given or lies in the first run's folder."""
    from medreasoner_training.evaluation import open_rows
    from medreasoner_training.evaluation.comparing import folder_of
    from medreasoner_training.evaluation.differing import pictured_differences, write_comparison
    from medreasoner_training.evaluation.running import DATA_SET_NAME, read_record

    first, second = (folder_of(path) for path in reports)
    records = [read_record(folder) for folder in (first, second)]
    own = first / DATA_SET_NAME
    place = data or (str(own) if own.is_dir() else None)
    pictures: tuple[PicturedDifference, ...] = ()
    if place is not None:
        source = open_rows(place, questions=questions, split=records[0]["data"]["split"])
        pictures = pictured_differences(first, second, found, source, device=device)
    names = [folder.resolve().name for folder in (first, second)]
    write_comparison(found, names, [each.get("prompting", {}) for each in records], pictures, html)


def _outcomes(found: Compared) -> Table:
    """How often both runs answered what."""
    names = [name.replace("_", " ") for name in found.outcomes[0]]
    table = Table("answers", *names, box=SIMPLE, padding=(0, 1, 0, 0))
    for which, counted in zip(("first", "second"), found.outcomes, strict=True):
        table.add_row(which, *map(str, counted.values()))
    return table


def _table(first: str, lines: Sequence[Comparison]) -> Table:
    from medreasoner_training.evaluation.page import percent
    from medreasoner_training.evaluation.summary import WORDS

    heads = ("first", "second", "difference", "from", "to", "n")
    table = Table(first, *heads, box=SIMPLE, padding=(0, 1, 0, 0))
    table.columns[0].no_wrap = True
    for line in lines:
        measure = cast("Measure", line.metric)
        bounds = ("–" if b is None else percent(measure, b, "+") for b in (line.low, line.high))
        table.add_row(
            Text(line.label or WORDS[measure]),
            percent(measure, line.live_mean),
            percent(measure, line.candidate_mean),
            percent(measure, line.difference, "+"),
            *bounds,
            str(line.samples),
        )
    return table


def _tell(verb: str, found: Sequence[Differing]) -> None:
    from medreasoner_training.evaluation.page import percent

    for each in found:
        by = percent("dice", abs(each.difference))
        said = f"The second {verb} {by} on {each.id}: {each.question}"
        console.print(Text(said), soft_wrap=True)
