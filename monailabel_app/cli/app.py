# SPDX-License-Identifier: Apache-2.0
"""The command line's tree; each command's work lives in a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from medreasoner_infer import __version__
from monailabel_app.cli.ablate import ablate
from monailabel_app.cli.ask import ask, segment
from monailabel_app.cli.audit import audit
from monailabel_app.cli.backup import backup, restore
from monailabel_app.cli.batch import batch
from monailabel_app.cli.compare import compare
from monailabel_app.cli.dataset import dataset
from monailabel_app.cli.demo import demo
from monailabel_app.cli.doctor import doctor
from monailabel_app.cli.evaluate import evaluate
from monailabel_app.cli.export import export
from monailabel_app.cli.history import history
from monailabel_app.cli.models import models
from monailabel_app.cli.places import NamedPlaces
from monailabel_app.cli.prior import prior
from monailabel_app.cli.records import records
from monailabel_app.cli.reward import reward
from monailabel_app.cli.robustness import robustness
from monailabel_app.cli.serve import serve
from monailabel_app.cli.train import train

app = typer.Typer(
    name="medreasoner",
    help="Ask a clinical question of a medical image; get reasoning, box, key points and mask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medreasoner {__version__}")
        raise typer.Exit


@app.callback()
def medreasoner(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and leave."
        ),
    ] = False,
) -> None:
    """Options of the command itself; what it does is its sub-commands' work."""


for command in (
    ask,
    segment,
    prior,
    batch,
    serve,
    demo,
    export,
    history,
    audit,
    backup,
    restore,
    train,
    evaluate,
    compare,
    ablate,
    robustness,
    doctor,
):
    app.command(cls=NamedPlaces)(command)
app.add_typer(dataset, name="dataset")
app.add_typer(models, name="models")
app.add_typer(records, name="records")
app.add_typer(reward, name="reward")
