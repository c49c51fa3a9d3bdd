# SPDX-License-Identifier: Apache-2.0
"""``medreasoner models calibrate``: the confidence of a reasoner, fitted on a site's own images."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monailabel_app.cli.data_options import (
    LimitOption,
    QuestionsOption,
    SplitOption,
    opened_rows,
)
from monailabel_app.cli.options import DeviceOption, RecordsOption
from monailabel_app.cli.progress import shown_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medreasoner_infer.reasoners import Reasoner
    from medreasoner_training.calibrating import Judged

MOST_ERROR = 0.1
"""Largest expected calibration error of a confidence that is kept."""
console = Console()


def calibrate(
    model: Annotated[
        str, typer.Argument(help="Registry name, Hugging Face id, local folder, or live.")
    ],
    data: Annotated[
        str,
        typer.Argument(
            help="Data set as for evaluate, or a site's studies with approved masks; of patients "
            "that the model has not learnt from."
        ),
    ],
    questions: QuestionsOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    records: RecordsOption = None,
    device: DeviceOption = "auto",
    keep_anyway: Annotated[
        bool, typer.Option(help=f"Keep it even if it is wrong by more than {MOST_ERROR:g}.")
    ] = False,
) -> None:
    """Fit the probability that an answer is right, and keep it for these very weights."""
    from medreasoner_infer.pipeline import Pipeline
    from medreasoner_training.calibrating import figures, out_of_fold
    from medreasoner_training.evaluation.judging import judge_rows

    with tempfile.TemporaryDirectory() as folder:
        source = opened_rows(
            data, Path(folder), console, questions=questions, split=split, records=records
        )
        with console.status("Loading the model"):
            reasoner = Pipeline.from_registry(model, device=device).reasoner
        with shown_progress(console, "Questions") as on_answered:
            judged = judge_rows(reasoner, source, limit, on_answered)
    unseen = figures(out_of_fold(judged))
    _show(unseen)
    wrong = [name for name, line in unseen.items() if line["calibration_error"] > MOST_ERROR]
    if wrong and not keep_anyway:
        console.print(
            f"Not kept: the confidence of {' and of '.join(_WORDS[name] for name in wrong)} is "
            f"wrong by more than {MOST_ERROR:g}. Give more data, or --keep-anyway."
        )
        raise typer.Exit(1)
    _keep(reasoner, judged, source.name, unseen)


_WORDS = {"present": "boxes", "absent": '"not present"'}


def _show(unseen: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table("answers", "n", "right", "AUROC", "calibration error")
    for name, line in unseen.items():
        numbers = (line["right"], line["auroc"], line["calibration_error"])
        shown = ("" if value is None else f"{value:.3f}" for value in numbers)
        table.add_row(_WORDS[name], str(line["n"]), *shown)
    console.print(table)
    console.print("Of patients whom the fit has not seen; a box is right from an IoU above 0.5.")


def _keep(
    reasoner: Reasoner,
    judged: list[Judged],
    name: str,
    unseen: Mapping[str, Mapping[str, Any]],
) -> None:
    from medreasoner_infer.atomic import write_durably
    from medreasoner_infer.reasoners.calibration import site_calibration_path
    from medreasoner_training.calibrating import CalibrationError, fitted

    digest = reasoner.identity.weights_sha256
    if digest is None:
        raise CalibrationError(
            f"The weights of {reasoner.identity.name} are not known. Load the model here."
        )
    patients = len({each.patient for each in judged})
    told = "; ".join(
        f"{_WORDS[key]}: AUROC {line['auroc']}, error {line['calibration_error']}"
        for key, line in unseen.items()
    )
    fitted_on = f"{len(judged)} answers about {patients} patients of {name}; unseen {told}"
    path = site_calibration_path(digest)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_durably(path, json.dumps(asdict(fitted(judged, fitted_on)), indent=1) + "\n")
    console.print(Text(f"Kept as {path}. Servers show it from their next start."), soft_wrap=True)
