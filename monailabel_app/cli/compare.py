# SPDX-License-Identifier: Apache-2.0
"""``medreasoner compare``: two evaluations of the same questions against each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from medreasoner_training.evaluation.comparing import Differing
    from medreasoner_training.gate import Comparison

console = Console()
ReportArgument = Annotated[Path, typer.Argument(help="Folder that evaluate wrote.", exists=True)]


def compare(
    report_a: ReportArgument,
    report_b: ReportArgument,
    resamples: Annotated[
        int, typer.Option(min=100, help="Bootstrap samples of the intervals.")
    ] = 2000,
    out: Annotated[
        Path | None, typer.Option(help="Write the comparison to this JSON file.")
    ] = None,
) -> None:
    """Compare two evaluations question by question; differences are the second minus the first."""
    from medreasoner_infer.atomic import write_durably
    from medreasoner_training.evaluation.comparing import compare_reports
    from medreasoner_training.gate import GateConfig

    found = compare_reports(report_a, report_b, GateConfig(resamples=resamples))
    console.print(f"{found.questions} questions with a target; {found.left_out} of one run only.")
    console.print(_table("measure", found.overall))
    console.print(_table("Dice of", found.by_group))
    _tell("gains", found.gained)
    _tell("loses", found.lost)
    if out is not None:
        write_durably(out, json.dumps(asdict(found), indent=1, ensure_ascii=False) + "\n")
        console.print(Text(f"wrote {out}"), soft_wrap=True)


def _table(first: str, lines: Sequence[Comparison]) -> Table:
    from medreasoner_training.evaluation.summary import WORDS

    words = {str(name): said for name, said in WORDS.items()}
    heads = ("first", "second", "difference", "from", "to", "n")
    table = Table(first, *heads, box=SIMPLE, padding=(0, 1, 0, 0))
    table.columns[0].no_wrap = True
    for line in lines:
        bounded = line.low is not None and line.high is not None
        table.add_row(
            Text(line.label or words[line.metric]),
            f"{line.live_mean:.4f}",
            f"{line.candidate_mean:.4f}",
            f"{line.difference:+.4f}",
            f"{line.low:+.4f}" if bounded else "–",
            f"{line.high:+.4f}" if bounded else "–",
            str(line.samples),
        )
    return table


def _tell(verb: str, found: Sequence[Differing]) -> None:
    for each in found:
        said = f"The second {verb} {abs(each.difference):.3f} on {each.id}: {each.question}"
        console.print(Text(said), soft_wrap=True)
