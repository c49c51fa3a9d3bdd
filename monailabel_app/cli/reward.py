# SPDX-License-Identifier: Apache-2.0
"""``medreasoner reward``: what a completion earns in training, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

reward = typer.Typer(help="Rewards of reinforcement learning.", no_args_is_help=True)


@reward.callback()
def _group() -> None:
    """Keep ``explain`` a sub-command although it is the only one."""


@reward.command()
def explain(
    completion: Annotated[
        str, typer.Argument(help="The reasoner's text; - reads it from standard input.")
    ],
    ground_truth: Annotated[
        str,
        typer.Argument(
            help='JSON with bbox_2d and point_2d, null, "not understood", or the path of such a '
            "file."
        ),
    ],
    mode: Annotated[str, typer.Option(help="soft, hard or base.")] = "soft",
    as_released: Annotated[
        bool, typer.Option("--as-released", help="Score like the published code, defects included.")
    ] = False,
    operating_iou: Annotated[
        float | None,
        typer.Option(help="IoU of a box that is worth as much as a right answer without one."),
    ] = None,
) -> None:
    """Say for each reward term what a completion earns and why."""
    from medreasoner_training.rewards import OPERATING_IOU
    from medreasoner_training.rewards import explain as explain_terms
    from medreasoner_training.rewards.config import check_mode

    text = typer.get_text_stream("stdin").read() if completion == "-" else completion
    point = OPERATING_IOU if operating_iou is None else operating_iou
    terms = explain_terms(text, _json_text(ground_truth), check_mode(mode), as_released, point)
    table = Table("term", "value", "reason")
    for line in terms:
        value = "not scored" if line.value is None else f"{line.value:.4f}"
        table.add_row(line.term, Text(value, justify="right"), Text(line.reason))
    Console().print(table)


def _json_text(argument: str) -> str:
    """The argument itself, or the content of the file that it names."""
    if argument.strip() == "null" or argument.lstrip().startswith(("{", '"')):
        return argument
    path = Path(argument)
    if not path.is_file():
        raise typer.BadParameter(
            f"{argument!r} is neither a JSON object, nor null, nor a file",
            param_hint="GROUND_TRUTH",
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        said = f"{argument!r} is no text in UTF-8"
        raise typer.BadParameter(said, param_hint="GROUND_TRUTH") from error
