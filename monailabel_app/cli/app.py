# SPDX-License-Identifier: Apache-2.0
"""The command line's tree; each command's work lives in a module of its own."""

from __future__ import annotations

import typer

from monailabel_app.cli.ask import ask, segment
from monailabel_app.cli.demo import demo
from monailabel_app.cli.doctor import doctor
from monailabel_app.cli.export import export
from monailabel_app.cli.history import history
from monailabel_app.cli.models import models
from monailabel_app.cli.reward import reward
from monailabel_app.cli.serve import serve
from monailabel_app.cli.train import train

app = typer.Typer(
    name="medreasoner",
    help="Ask a clinical question of a medical image; get reasoning, box, key points and mask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (ask, segment, serve, demo, export, history, train, doctor):
    app.command()(command)
app.add_typer(models, name="models")
app.add_typer(reward, name="reward")
