# SPDX-License-Identifier: Apache-2.0
"""``medreasoner dataset``: data sets of questions built, checked, converted and reviewed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monailabel_app.cli.places import OverwriteOption, replaceable, usable_file, usable_folder
from monailabel_app.cli.progress import shown_progress

if TYPE_CHECKING:
    from medreasoner_training.dataset import CheckReport
    from medreasoner_training.dataset.questions import QuestionSource
    from medreasoner_training.dataset.review.deciding import Undecided
    from medreasoner_training.dataset.statistics import Spread

dataset = typer.Typer(
    help="Build, check, convert and review data sets in the schema of U-MRG-14K.",
    no_args_is_help=True,
)
console = Console()
_MOST_VALUES = 12
_MAKER = "medreasoner dataset review"
_TEMPLATES, _BENCHMARK = "templates", "benchmark"
DataArgument = Annotated[
    str, typer.Argument(help="Any data set that 'medreasoner evaluate' reads.")
]
QuestionsOption = Annotated[
    Path | None, typer.Option("--questions", help="CSV or parquet of questions about a folder.")
]
NewFolderOption = Annotated[
    Path, typer.Option("--out", help="New folder for the data set.", callback=usable_folder)
]


@dataset.command()
def build(
    images: Annotated[
        Path,
        typer.Argument(help="Folder with manifest.json or labels.csv: image, mask, label, …"),
    ],
    out: NewFolderOption,
    questions: Annotated[
        str,
        typer.Option(help="written: by --writer; benchmark: those that come with the package."),
    ] = "written",
    labels: Annotated[
        Path | None, typer.Option(help="Manifest or table of labels that lies elsewhere.")
    ] = None,
    writer: Annotated[
        str,
        typer.Option(
            help="templates, of the clinical vocabulary; or the address of an OpenAI-compatible "
            "server at the site, e.g. http://localhost:8000/v1."
        ),
    ] = _TEMPLATES,
    model: Annotated[
        str | None, typer.Option(help="The writer's model, as its server names it.")
    ] = None,
    writer_public: Annotated[
        bool,
        typer.Option(
            "--writer-public",
            help="Let the writer be outside the site; it is told names of labels.",
        ),
    ] = False,
    languages: Annotated[
        str | None,
        typer.Option(help="e.g. en,de or all; by default en, of the benchmark all."),
    ] = None,
    implicit: Annotated[int, typer.Option(help="Implicit questions for each mask.")] = 3,
    explicit: Annotated[int, typer.Option(help="Explicit questions for each mask.")] = 1,
    absent: Annotated[
        int, typer.Option(help="Questions for each image about what it cannot show.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
) -> None:
    """Make a data set of questions from images with masks; goes on where it was ended."""
    from medreasoner_training.dataset import Build, Wanted, build_dataset, read_pairs

    source = _source(questions, writer, model, writer_public, languages, out)
    wanted = Wanted(implicit, explicit, absent)
    made = Build(read_pairs(images, labels), source, out, wanted, seed)
    with shown_progress(console, "Images") as on_image:
        built = build_dataset(made, on_image)
    table = Table("label", "reason", "count", title="Rejected", box=SIMPLE)
    for label, reason, count in built.rejected:
        table.add_row(Text(label), reason, str(count))
    if built.rejected:
        console.print(table)
    said = ", ".join(f"{split or 'no split'} {count}" for split, count in built.rows.items())
    console.print(Text(f"{sum(built.rows.values())} questions ({said}) written to {out}"))


@dataset.command()
def check(
    data: DataArgument,
    questions: QuestionsOption = None,
    all_implicit: Annotated[
        bool,
        typer.Option(help="Hold questions of an untold kind to be implicit, as U-MRG-14K's are."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="File for the report as JSON.", callback=usable_file)
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Check every row and count what is there; the exit status is 1 if a row has a fault.

    A report of an earlier check is replaced, any other file only with --overwrite.
    """
    from medreasoner_training.dataset import check_dataset, write_check
    from medreasoner_training.dataset.checking import is_check
    from medreasoner_training.evaluation import open_rows

    replaceable(out, "--out", overwrite, is_check)
    source = open_rows(data, questions=questions, split="all")
    with shown_progress(console, "Rows") as on_row:
        report = check_dataset(source, all_implicit=all_implicit, on_row=on_row)
    _show_check(report)
    if out is not None:
        write_check(report, out)
    if report.faults:
        raise typer.Exit(1)


@dataset.command()
def convert(
    data: DataArgument,
    to: Annotated[str, typer.Option(help="umrg, manifest or pictures.")],
    out: NewFolderOption,
    questions: QuestionsOption = None,
    allow_loss: Annotated[
        bool, typer.Option(help="Write what the format can hold, and leave the rest out.")
    ] = False,
) -> None:
    """Write a data set in another format; refuses where something would be lost."""
    from medreasoner_training.dataset import FORMATS, convert_dataset
    from medreasoner_training.evaluation import open_rows

    if to not in FORMATS:
        raise typer.BadParameter(f"{to!r}; expected {', '.join(FORMATS)}.")
    source = open_rows(data, questions=questions, split="all")
    with shown_progress(console, "Rows") as on_row:
        rows = convert_dataset(source, to, out, allow_loss=allow_loss, on_row=on_row)
    console.print(Text(f"{rows} questions read, written to {out}"))


@dataset.command()
def review(
    data: DataArgument,
    questions: QuestionsOption = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write the table of a review, CSV.", callback=usable_file),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Write a page for a browser, which makes that table.", callback=usable_file
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Rows of the page, spread evenly over the data.")
    ] = 200,
    import_: Annotated[
        Path | None, typer.Option("--import", help="Read the table with the decisions.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for the reviewed data set.", callback=usable_folder),
    ] = None,
    undecided: Annotated[
        str, typer.Option(help="What becomes of rows without a decision: keep or drop.")
    ] = "keep",
    overwrite: OverwriteOption = False,
) -> None:
    """Put a data set before people: a table or page out, their decisions in.

    A table that is there, which may hold decisions, is replaced with --overwrite only.
    """
    from medreasoner_training.dataset.review import write_review_page, write_review_table
    from medreasoner_training.evaluation import open_rows
    from medreasoner_training.pages import page_maker
    from medreasoner_training.samples.slices import spread

    if export is None and page is None and import_ is None:
        raise typer.BadParameter("give --export, --page or --import")
    replaceable(export, "--export", overwrite)
    replaceable(page, "--page", overwrite, lambda file: page_maker(file) == _MAKER)
    source = open_rows(data, questions=questions, split="all")
    everything = list(range(source.count))
    if export is not None:
        count = write_review_table(source.read(everything), export)
        console.print(Text(f"{count} rows written to {export}"))
    if page is not None:
        shown = spread(everything, limit)
        with shown_progress(console, "Rows") as on_row:
            count = write_review_page(
                source.name, source.read(shown), page, lambda done: on_row(done, len(shown))
            )
        console.print(Text(f"{count} of {source.count} rows written to {page}"))
    if import_ is not None:
        _import(data, questions, import_, out, undecided)


def _import(
    data: str, questions: Path | None, table: Path, out: Path | None, undecided: str
) -> None:
    from medreasoner_training.dataset.review import apply_review, read_decisions
    from medreasoner_training.evaluation import open_rows

    if out is None:
        raise typer.BadParameter("give --out as well: a data set is never changed once written")
    if undecided not in ("keep", "drop"):
        raise typer.BadParameter(f"{undecided!r}; expected keep or drop.")
    source = open_rows(data, questions=questions, split="all")
    with shown_progress(console, "Rows") as on_row:
        found = apply_review(
            source, read_decisions(table), out,
            undecided=cast("Undecided", undecided), on_row=on_row,
        )  # fmt: skip
    for reason, count in found.refused.items():
        console.print(Text(f"{count} edited questions left out: {reason}"))
    console.print(
        Text(
            f"{found.kept} rows written to {out}: {found.edited} edited, {found.rejected} "
            f"rejected, {found.undecided} undecided"
        )
    )


def _source(
    questions: str, writer: str, model: str | None, public: bool, languages: str | None, out: Path
) -> QuestionSource:
    """Who writes the questions.

    Raises:
        typer.BadParameter: the options do not go together.
    """
    from medreasoner_training.dataset import BenchmarkQuestions, Templates, parse_languages

    wanted = None if languages is None else parse_languages(languages)
    if questions == _BENCHMARK:
        return BenchmarkQuestions() if wanted is None else BenchmarkQuestions(wanted)
    if questions != "written":
        raise typer.BadParameter(f"{questions!r}; expected written or benchmark.")
    if writer == _TEMPLATES:
        return Templates() if wanted is None else Templates(wanted)
    if model is None:
        raise typer.BadParameter("give --model, as the writer's server names it")
    if wanted not in (None, ("en",)):
        raise typer.BadParameter("a model writes in English only; leave --languages out")
    return _by_model(writer, model, public, out)


def _by_model(url: str, model: str, public: bool, out: Path) -> QuestionSource:
    from medreasoner_training.dataset import WrittenByModel, working_folder
    from monailabel_app.export.exporting import API_KEY_VARIABLE
    from monailabel_app.export.questions import QueryWriterSettings, SiteChat

    settings = QueryWriterSettings(url, model, allow_public=public)
    chat = SiteChat(settings, os.environ.get(API_KEY_VARIABLE))
    return WrittenByModel(chat, model, lambda: working_folder(out) / "descriptions.jsonl")


def _show_check(report: CheckReport) -> None:
    found = report.statistics
    for name, counts in found.counts.items():
        table = Table(name.replace("_", " "), "rows", box=SIMPLE, padding=(0, 1, 0, 0))
        for value, count in list(counts.items())[:_MOST_VALUES]:
            table.add_row(Text(value), str(count))
        if len(counts) > _MOST_VALUES:
            rest = sum(list(counts.values())[_MOST_VALUES:])
            table.add_row(f"{len(counts) - _MOST_VALUES} others", str(rest))
        console.print(table)
    spreads = {
        "words of a question": (found.question_words, 1.0),
        "box, % of the image": (found.box_area_share, 100.0),
        "mask, % of the image": (found.mask_area_share, 100.0),
    }
    table = Table("", "mean", "least", "quarter", "median", "3 quarters", "most", box=SIMPLE)
    for name, (spread, factor) in spreads.items():
        table.add_row(name, *_numbers(spread, factor))
    console.print(table)
    if report.faults:
        table = Table("fault", "rows", "e.g.", title="Faults", box=SIMPLE)
        for fault in report.faults:
            table.add_row(fault.reason, str(fault.count), Text(", ".join(fault.examples[:2])))
        console.print(table)
    for note in report.notes:
        console.print(note)
    console.print(
        f"{report.rows} rows, {found.patients or 'no told'} patients, {report.faulty_rows} with a "
        "fault"
    )


def _numbers(spread: Spread, factor: float) -> Iterator[str]:
    for name in ("mean", "least", "quarter", "median", "three_quarters", "most"):
        yield f"{factor * getattr(spread, name):.1f}"
