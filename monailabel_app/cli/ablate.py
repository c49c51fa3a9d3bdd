# SPDX-License-Identifier: Apache-2.0
"""``medreasoner ablate``: the paper's comparisons of trainings on any data set."""

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

from monailabel_app.cli.options import DeviceOption
from monailabel_app.cli.places import usable_folder

if TYPE_CHECKING:
    from medreasoner_training.ablations import ArmFigures
    from medreasoner_training.evaluation.running import OnAnswered
    from medreasoner_training.finetune import Progress

console = Console()
TABLE_NAME, FIGURES_NAME = "table.md", "figures.json"
_TELL_ROWS = 50


def ablate(
    config: Annotated[
        Path, typer.Argument(help="YAML file of what is compared; see docs/ablation.md.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of trainings, answers and table; an unfinished one is resumed.",
            callback=usable_folder,
        ),
    ],
    device: DeviceOption = "auto",
    command: Annotated[
        str | None, typer.Option(help="Trainer of another environment, e.g. accelerate launch …")
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=100, help="Bootstrap samples of the intervals.")
    ] = 2000,
) -> None:
    """Train arms from one start, measure all on the same questions, and set them side by side."""
    from medreasoner_infer.atomic import write_durably
    from medreasoner_training.ablations import (
        Ablation,
        arm_figures,
        markdown,
        read_ablation,
        run_ablation,
    )
    from medreasoner_training.gate import GateConfig

    wanted = read_ablation(config)
    ablation = Ablation(wanted, config.absolute().parent, out.absolute(), device)
    answers = run_ablation(ablation, lambda run: _trained(run, command), _told)
    held_out = wanted.held_out_super_categories
    figures = arm_figures(answers, held_out, GateConfig(resamples=resamples))
    console.print(_table(figures))
    content = json.dumps([asdict(each) for each in figures], indent=1, allow_nan=False)
    for name, text in ((TABLE_NAME, markdown(figures)), (FIGURES_NAME, content)):
        write_durably(out / name, text + "\n")
        console.print(Text(f"wrote {out / name}"), soft_wrap=True)


def _trained(run: Path, command: str | None) -> Progress:
    """Carry out or resume a training in a process of its own."""
    from monailabel_app.training.lock import TrainingLock
    from monailabel_app.training.reporting import progress_line
    from monailabel_app.training.trainer import Trainer, trainer_command

    with TrainingLock(run).held(run) as held:
        trainer = Trainer(trainer_command(command), run, held)
        return trainer.follow(lambda progress: console.print(Text(progress_line(progress))))


def _told(what: str) -> OnAnswered:
    """Tell that a part begins, and then how far it is."""
    console.print(Text(what, style="bold"))

    def tell(done: int, total: int) -> None:
        if done % _TELL_ROWS == 0 or done == total:
            console.print(Text(f"{what}: {done} of {total}"))

    return tell


def _table(figures: Sequence[ArmFigures]) -> Table:
    from medreasoner_training.ablations import table_rows

    head, lines = table_rows(figures)
    table = Table(*head, box=SIMPLE, padding=(0, 1, 0, 0))
    table.caption = "In percent, with bootstrap intervals over whole patients."
    table.caption_justify = "left"
    for line in lines:
        table.add_row(*map(Text, line))
    return table
