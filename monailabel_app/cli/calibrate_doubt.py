# SPDX-License-Identifier: Apache-2.0
"""``medreasoner models calibrate-doubt``: what the agreement of readings tells of a mask."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from medreasoner_infer.doubt_record import GOOD_DICE
from medreasoner_infer.request import MAX_SAMPLES
from monailabel_app.cli.calibrate import MOST_ERROR
from monailabel_app.cli.data_options import (
    LimitOption,
    QuestionsOption,
    SplitOption,
    opened_rows,
)
from monailabel_app.cli.options import (
    DEFAULT_MODEL,
    DeviceOption,
    RecordsOption,
    SegmenterOption,
)
from monailabel_app.cli.progress import shown_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medreasoner_infer.pipeline import Pipeline
    from medreasoner_training.calibrating_doubt import JudgedMask

console = Console()


def calibrate_doubt(
    model: Annotated[
        str, typer.Argument(help="Registry name, Hugging Face id, local folder, or live.")
    ],
    data: Annotated[
        str,
        typer.Argument(
            help="Data set with masks as for evaluate, or a site's studies with approved masks; "
            "of patients that the model has not learnt from."
        ),
    ],
    segmenter: SegmenterOption = DEFAULT_MODEL,
    samples: Annotated[
        int, typer.Option(min=2, max=MAX_SAMPLES, help="Answers drawn, as many as readers will.")
    ] = 3,
    questions: QuestionsOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    records: RecordsOption = None,
    device: DeviceOption = "auto",
    keep_anyway: Annotated[
        bool, typer.Option(help=f"Keep it even if it is wrong by more than {MOST_ERROR:g}.")
    ] = False,
) -> None:
    """Fit the probability that a mask has a Dice of 0.7 or more, for these very weights."""
    from medreasoner_infer.pipeline import Pipeline
    from medreasoner_training.calibrating_doubt import doubt_figures, unseen_chances
    from medreasoner_training.evaluation.judging_masks import judge_masks

    with tempfile.TemporaryDirectory() as folder:
        source = opened_rows(
            data, Path(folder), console, questions=questions, split=split, records=records
        )
        pipeline = Pipeline.from_registry(model, segmenter, device=device)
        with console.status("Loading the models"):
            pipeline.load()
        with shown_progress(console, "Questions") as on_answered:
            judged = judge_masks(pipeline, source, samples, limit, on_answered)
    unseen = doubt_figures(judged, unseen_chances(judged))
    console.print(
        f"{unseen['n']} masks, {unseen['good']:.0%} with a Dice of {GOOD_DICE:g} or more; AUROC of "
        f"the agreement {unseen['auroc_of_agreement']}. Of patients whom the fit has not seen: "
        f"AUROC of the probability {unseen['auroc']}, calibration error "
        f"{unseen['calibration_error']}."
    )
    if unseen["calibration_error"] > MOST_ERROR and not keep_anyway:
        console.print(
            f"Not kept: it is wrong by more than {MOST_ERROR:g}. Give more data, or --keep-anyway."
        )
        raise typer.Exit(1)
    _keep(pipeline, judged, f"{source.name}, {samples} answers each", unseen)


def _keep(
    pipeline: Pipeline, judged: list[JudgedMask], name: str, unseen: Mapping[str, Any]
) -> None:
    from medreasoner_infer.atomic import write_durably
    from medreasoner_infer.doubt import doubt_calibration_path
    from medreasoner_training.calibrating import CalibrationError
    from medreasoner_training.calibrating_doubt import fit_doubt

    models = (pipeline.reasoner.identity, pipeline.segmenter.identity)
    hashes = [model.weights_sha256 for model in models if model.weights_sha256 is not None]
    if len(hashes) < len(models):
        raise CalibrationError("The weights of a model are not known. Load both models here.")
    patients = len({each.patient for each in judged})
    fitted_on = (
        f"{len(judged)} masks of {patients} patients of {name}; unseen AUROC {unseen['auroc']}, "
        f"error {unseen['calibration_error']}"
    )
    path = doubt_calibration_path(*hashes)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_durably(path, json.dumps(asdict(fit_doubt(judged, fitted_on)), indent=1) + "\n")
    console.print(Text(f"Kept as {path}. Every answer from now on tells it."), soft_wrap=True)
