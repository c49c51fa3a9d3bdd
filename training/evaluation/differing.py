# SPDX-License-Identifier: Apache-2.0
"""Pictures of the questions on which two evaluations differ most, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medreasoner_infer.models.loading import load_segmenter
from medreasoner_infer.models.registry import registered_models, resolve_model
from medreasoner_infer.segmenters.base import Segmenter
from medreasoner_training.evaluation.comparing import Compared, Differing, folder_of
from medreasoner_training.evaluation.drawing import answer_panel, picture, true_panel
from medreasoner_training.evaluation.errors import EvaluationRunError
from medreasoner_training.evaluation.page import percent, render_page
from medreasoner_training.evaluation.pictures import load_case
from medreasoner_training.evaluation.predictions import (
    PREDICTIONS_NAME,
    Prediction,
    read_predictions,
)
from medreasoner_training.evaluation.rows import RowSource
from medreasoner_training.evaluation.running import places_of, read_record
from medreasoner_training.evaluation.summary import WORDS

TEMPLATE_NAME = "compare.html"
_ANY_MODEL_SIZE = 128  # the square of the reasoner is not looked at


@dataclass(frozen=True)
class PicturedDifference:
    """A question with both answers; the PNG shows truth, first and second from left to right."""

    differing: Differing
    first: Prediction
    second: Prediction
    png_base64: str


def pictured_differences(
    first: Path, second: Path, found: Compared, source: RowSource, *, device: str = "auto"
) -> tuple[PicturedDifference, ...]:
    """Draw the questions on which the second run gains and loses most.

    The masks are made again from the answers' boxes and points, by the segmenters of the runs.

    Args:
        first: folder of an evaluation, or its ``report.json``.
        second: likewise.
        found: their comparison.
        source: the data set of both.
        device: of the segmenters.

    Raises:
        EvaluationRunError: a run is of other data, or of a segmenter that is another one now.
        ServiceError: a segmenter cannot be loaded.
    """
    folders = [folder_of(path) for path in (first, second)]
    records = [read_record(folder) for folder in folders]
    for folder, record in zip(folders, records, strict=True):
        _require_data(folder, record, source)
    answers = [read_predictions(folder / PREDICTIONS_NAME) for folder in folders]
    segmenters = [segmenter_of(record["segmenter"], device) for record in records]
    rows = places_of(source.count, records[0]["settings"]["limit"])
    shown = sorted((*found.gained, *found.lost), key=lambda each: each.places[0])
    drawn = []
    for each, row in zip(shown, source.read([rows[d.places[0]] for d in shown]), strict=True):
        case = load_case(row, _ANY_MODEL_SIZE)
        one, two = (a[place] for a, place in zip(answers, each.places, strict=True))
        panels = [
            true_panel(case),
            answer_panel(case, one, segmenters[0], _title("first", one)),
            answer_panel(case, two, segmenters[1], _title("second", two)),
        ]
        png = picture(case.shown.image.pixels, panels)
        drawn.append(PicturedDifference(each, one, two, png))
    return tuple(sorted(drawn, key=lambda each: -each.differing.difference))


def segmenter_of(identity: Mapping[str, Any], device: str) -> Segmenter:
    """The segmenter that a run's record names, if it still has the same weights.

    Raises:
        EvaluationRunError: it has not.
        UnknownModelError: its file or folder is gone.
        ServiceError: it cannot be loaded.
    """
    name = identity["name"] if identity["name"] in registered_models("segmenter") else None
    segmenter = load_segmenter(
        resolve_model("segmenter", name or identity["source"]), device=device
    )
    if segmenter.identity.weights_sha256 != identity["weights_sha256"]:
        raise EvaluationRunError(
            f"The segmenter {identity['name']} has other weights than in the evaluation, so its "
            "masks cannot be shown. Compare without --data, or evaluate again."
        )
    return segmenter


def write_comparison(
    found: Compared,
    names: Sequence[str],
    asked: Sequence[Mapping[str, Any]],
    pictures: Sequence[PicturedDifference],
    path: Path,
) -> None:
    """Write the page of a comparison, whole or not at all.

    Args:
        found: the comparison.
        names: what the two runs are called.
        asked: how each reasoner was asked.
        pictures: of :func:`pictured_differences`, or none.
        path: of the page.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    render_page(
        TEMPLATE_NAME,
        path,
        found=found,
        names=names,
        asked=asked,
        pictures=pictures,
        words=WORDS,
        percent=percent,
    )


def _title(which: str, answer: Prediction) -> str:
    return which if answer.dice is None else f"{which}, Dice {percent('dice', answer.dice)}"


def _require_data(folder: Path, record: Mapping[str, Any], source: RowSource) -> None:
    told = record["data"]
    if (told["sha256"], told["split"]) != (source.fingerprint, source.split):
        raise EvaluationRunError(
            f"{folder.name} was measured on {told['name']!r}, split {told['split']}; the data "
            f"given are {source.name!r}, split {source.split}, or have changed since. Give the "
            "data set of the evaluation, with its questions."
        )
