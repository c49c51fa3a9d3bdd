# SPDX-License-Identifier: Apache-2.0
"""``medreasoner evaluate``: a reasoner and a segmenter measured on a data set as in the paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monailabel_app.cli.data_options import (
    LimitOption,
    QuestionsOption,
    SplitOption,
    opened_rows,
)
from monailabel_app.cli.options import (
    DEFAULT_MODEL,
    DeviceOption,
    ReasonerOption,
    ReasonerUrlOption,
    RecordsOption,
    SegmenterOption,
)
from monailabel_app.cli.places import usable_folder
from monailabel_app.cli.progress import shown_progress

if TYPE_CHECKING:
    from medreasoner_infer.reasoners.prompts import Prompting
    from medreasoner_infer.types import ModelKind
    from medreasoner_training.evaluation.faithfulness import Faithfulness
    from medreasoner_training.evaluation.report import Report
    from medreasoner_training.evaluation.summary import Errors, GroupSummary, Measure

console = Console()
_HEADS: dict[Measure, str] = {
    "box_iou": "box IoU",
    "pdice_as_released": "pDice*",
    "pdice": "pDice",
    "dice_points": "points",
    "dice_box": "box",
    "dice": "both",
    "dice_true_prompts": "true",
}
_BOUNDS = {"low": "interval from", "high": "to"}


def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            help="Parquet file or folder in the schema of U-MRG-14K, exported data set, folder "
            "with manifest.json or with questions.csv, Hugging Face data set, or a site's studies: "
            "folder or DICOMweb address."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the report; an unfinished one is resumed.", callback=usable_folder
        ),
    ],
    reasoner: ReasonerOption = DEFAULT_MODEL,
    segmenter: SegmenterOption = DEFAULT_MODEL,
    reasoner_url: ReasonerUrlOption = None,
    device: DeviceOption = "auto",
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Prompt by name: reasoning, direct, official or official-direct (the paper's); "
            "by default as the model's folder or the registry says."
        ),
    ] = None,
    prompting: Annotated[
        str | None,
        typer.Option(help="reasoning or direct: a trace before the answer, or the answer alone."),
    ] = None,
    constrained: Annotated[
        bool,
        typer.Option(
            "--constrained/--free",
            help="Hold every answer to the format, or let the model refuse and break it.",
        ),
    ] = True,
    questions: QuestionsOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Questions that the reasoner gets at once.")
    ] = 8,
    parts: Annotated[
        bool, typer.Option(help="Masks from the box alone and from the points alone, too.")
    ] = True,
    true_prompts: Annotated[
        bool, typer.Option(help="Masks from the true prompts, too: the segmenter's ceiling.")
    ] = True,
    resamples: Annotated[
        int, typer.Option(min=100, help="Bootstrap samples of the intervals.")
    ] = 2000,
    protocol: Annotated[
        str | None,
        typer.Option(help="ood: tell super-categories apart that training had left out."),
    ] = None,
    held_out_supercategory: Annotated[
        list[str] | None, typer.Option(help="One of them; may be repeated.")
    ] = None,
    faithfulness: Annotated[
        int,
        typer.Option(
            min=0,
            help="So many answers are checked: statements, removal, shuffled images. Costs up to "
            "ten answers each.",
        ),
    ] = 0,
    records: RecordsOption = None,
) -> None:
    """Measure a reasoner and a segmenter on a data set; writes predictions and reports."""
    from medreasoner_infer.errors import require_package
    from medreasoner_infer.pipeline import Pipeline
    from medreasoner_infer.reasoners.prompts import Asking
    from medreasoner_training.evaluation import Measuring, Run, RunSettings
    from medreasoner_training.evaluation import evaluate as evaluate_run
    from medreasoner_training.evaluation.protocols import require_asked
    from medreasoner_training.gate import GateConfig

    require_package("pyarrow", "train")
    held_out = _held_out(protocol, held_out_supercategory or [])
    asking = Asking(prompt, cast("Prompting | None", prompting), constrained)
    source = opened_rows(data, out, console, questions=questions, split=split, records=records)
    require_asked(source, limit, held_out)
    models = Pipeline.from_registry(
        reasoner, segmenter, device=device, reasoner_url=reasoner_url, asking=asking
    )
    unpinned = _unpinned(reasoner, segmenter)
    settings = RunSettings(limit, batch, Measuring(parts, true_prompts))
    with console.status("Loading the models"):
        run = Run(source, models.reasoner, models.segmenter, settings, out, asking, unpinned)
    with shown_progress(console, "Questions") as on_answered:
        config = GateConfig(resamples=resamples)
        report = evaluate_run(run, config, on_answered, held_out, faithfulness)
    _show(report)
    for name in sorted(path.name for path in out.iterdir() if path.name.startswith("report.")):
        console.print(Text(f"wrote {out / name}"), soft_wrap=True)


def _unpinned(reasoner: str, segmenter: str) -> tuple[ModelKind, ...]:
    """Which models others may exchange under the same name; the live reasoner is the site's own."""
    from medreasoner_infer.models.registry import LIVE, resolve_model, served_reasoner

    named = [resolve_model("segmenter", segmenter)]
    if reasoner != LIVE:  # a server may know names that the registry does not
        named.insert(0, served_reasoner(reasoner))
    return tuple(spec.kind for spec in named if spec.is_unpinned)


def _held_out(protocol: str | None, names: list[str]) -> list[str]:
    from medreasoner_training.evaluation.protocols import OOD

    if protocol not in (None, OOD) or (protocol == OOD) != bool(names):
        raise typer.BadParameter(
            f"give {OOD} with --held-out-supercategory, or neither", param_hint="--protocol"
        )
    return names


def _show(report: Report) -> None:
    """The paper's table: ours over all and by super-category, then the published rows."""
    summary, published = report.summary, report.published
    heads = ("", "n", *_HEADS.values())
    table = Table(*heads, box=SIMPLE, padding=(0, 1, 0, 0), caption=_caption(report))
    table.caption_justify = "left"
    table.columns[0].no_wrap = True
    table.add_row("all", *_cells(summary.overall))
    if summary.overall.patients > 1:
        for bound, said in _BOUNDS.items():
            table.add_row(f"  {said}", "", *_bounds(summary.overall, bound))
    table.add_section()
    for group in summary.groups["super_category"]:
        table.add_row(Text(group.name), *_cells(group))
    table.add_section()
    if report.protocol is not None:
        for group in report.protocol.groups:
            table.add_row(group.name, *_cells(group))
        table.add_section()
    for row in published.rows:
        told = (getattr(row, name, None) for name in _HEADS)
        table.add_row(Text(row.name), "", *("" if v is None else f"{100 * v:.2f}" for v in told))
    console.print(table)
    console.print(_answered(report))
    if summary.errors is not None:
        _show_errors(summary.errors)
    if report.faithfulness is not None:
        _show_faithfulness(report.faithfulness)
    for kind in report.run["unpinned"]:
        model = report.run[kind]
        loaded = f" {model['revision']} was loaded." if model["revision"] else ""
        console.print(Text(f"{kind} {model['name']}: revision: not pinned.{loaded}"))


def _answered(report: Report) -> Table:
    """How often each outcome was answered, and how the reasoner was asked."""
    asked, outcomes = report.run["prompting"], report.summary.outcomes
    names = [name.replace("_", " ") for name in outcomes["present"]]
    table = Table("the target is", *names, box=SIMPLE, padding=(0, 1, 0, 0))
    table.caption_justify = "left"
    table.caption = (
        f"Answers by outcome. Prompting {asked['way'] or 'not known'}, prompt "
        f"{asked['prompt']}, decoding {asked['decoding']}: only free decoding lets a model refuse "
        "or break the format."
    )
    for truth, counted in outcomes.items():
        table.add_row(truth, *map(str, counted.values()))
    return table


def _show_errors(errors: Errors) -> None:
    own, lost, without_box, wrong = (
        f"{100 * each.mean:.2f}"
        for each in (errors.segmenter, errors.reasoner, errors.without_box, errors.wrong_prompts)
    )
    console.print(
        Text(
            f"Missing of a mask Dice of 100: {own} by the segmenter, which misses them with the "
            f"true box and points too; {lost} by the reasoner, of which {without_box} where it "
            f"gave no box and {wrong} where its box and points were wrong."
        )
    )


def _show_faithfulness(found: Faithfulness) -> None:
    from medreasoner_training.evaluation.page import FAITHFULNESS_WORDS

    table = Table("faithfulness", "percent", "of", box=SIMPLE, padding=(0, 1, 0, 0))
    for name, said in FAITHFULNESS_WORDS.items():
        share = getattr(found, name)
        percent = "–" if share.share is None else f"{100 * share.share:.1f}"
        table.add_row(said, percent, str(share.n))
    console.print(table)


def _caption(report: Report) -> str:
    return (
        "In percent; points, box, both, true: Dice of the masks from these prompts. pDice* as "
        f"released: 200 for a perfect answer. Last rows: {report.published.source}, other images."
    )


def _cells(group: GroupSummary) -> Iterator[str]:
    yield str(group.n)
    for name in _HEADS:
        found = group.values.get(name)
        yield "–" if found is None else f"{100 * found.mean:.2f}"


def _bounds(group: GroupSummary, bound: str) -> Iterator[str]:
    for name in _HEADS:
        value = getattr(group.values.get(name), bound, None)
        yield "–" if value is None else f"{100 * value:.2f}"
