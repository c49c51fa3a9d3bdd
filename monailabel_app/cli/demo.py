# SPDX-License-Identifier: Apache-2.0
"""``medreasoner demo``: three questions to a running server, with pictures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from medreasoner_infer.types import OUTCOME_WORDS
from monailabel_app.cli.places import OverwriteOption, replaceable_answers, usable_folder
from monailabel_app.cli.tour import (
    DEFAULT_QUESTIONS,
    DemoAnswer,
    DemoQuestion,
    answer_questions,
    free_port,
    make_demo_study,
    running_server,
)
from monailabel_app.site.paths import require_studies

DEMO_STUDIES = Path("demo_studies")
DEMO_OUT = Path("demo_output")
# Pictures of patients lie apart from those of the generated study.
OWN_OUT = DEMO_OUT / "own_studies"
console = Console()


def demo(
    studies: Annotated[
        Path | None, typer.Option(help="Your own studies; a CT study is generated if not given.")
    ] = None,
    query: Annotated[
        list[str] | None, typer.Option(help="Your own question; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help=f"Folder for the pictures; {DEMO_OUT} if not given, {OWN_OUT} for your own.",
            callback=usable_folder,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Start the server on a study, ask it three questions, show the answers.

    Files of an earlier answer are replaced, any other of these names only with --overwrite.
    """
    out = out or (DEMO_OUT if studies is None else OWN_OUT)
    replaceable_answers(out, overwrite)
    if studies is None:
        studies = DEMO_STUDIES
        with console.status("Generating a CT study"):
            make_demo_study(studies)
    require_studies(str(studies))
    questions = tuple(DemoQuestion(text) for text in query) if query else DEFAULT_QUESTIONS
    out.mkdir(parents=True, exist_ok=True)
    console.print(Text(f"Starting the MONAI Label server on {studies}"))
    with running_server(studies, free_port(), out / "server.log") as url:
        pictures: list[str] = []
        for answer in answer_questions(url, questions, out):
            console.print(_panel(answer))
            pictures += [path.name for path in answer.files if path.match("overlay*")]
    console.print(Text(f"In {out.resolve()} look at {', '.join(pictures)}."))
    console.print(Text("Keep the server running for OHIF or 3D Slicer with:"))
    console.print(Text(f"  medreasoner serve --studies {shlex.quote(str(studies))}", "bold"))


def _panel(answer: DemoAnswer) -> Panel:
    inference = answer.inference
    asked = "Question" if inference.outcome == "not_understood" else "Target"
    models = [model for model in (inference.reasoner, inference.segmenter) if model is not None]
    names = " + ".join(model.name for model in models)
    body = Text.assemble(
        f"{inference.reasoning}\n\n",
        f"{asked} {OUTCOME_WORDS[inference.outcome]}. {inference.slice_choice.explanation}\n",
        (f"{answer.seconds:.1f} s. {names}: {models[0].notice}\n", "dim"),
        "\n".join(str(path) for path in answer.files),
    )
    return Panel(body, title=Text(answer.question.query, "bold"), title_align="left")
