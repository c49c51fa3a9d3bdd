# SPDX-License-Identifier: Apache-2.0
"""Predictions: one row per question, kept as they are made and finished as a parquet file.

While a run goes on, whole batches are appended to a journal and forced to the disk; of a batch that
a kill cut short nothing counts. In the end the parquet file takes the journal's place. Floats go
through JSON and parquet unchanged, so that a resumed run has the figures of an undisturbed one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from medreasoner_infer.atomic import replacing
from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.types import XY, XYXY
from medreasoner_training.evaluation.errors import EvaluationRunError
from medreasoner_training.evaluation.outcomes import Outcome
from medreasoner_training.json_lines import JsonLines

if TYPE_CHECKING:
    from pyarrow import Schema

PREDICTIONS_NAME = "predictions.parquet"
JOURNAL_NAME = "predictions.unfinished.jsonl"


@dataclass(frozen=True)
class Prediction:
    """What was answered to one question, and how well; pixels are those of the data set's image.

    Measures are ``None`` where there is nothing to measure: of an absent target, without a true
    mask, and of prompts that the segmenter does not take. An answer without a box has 0.

    Attributes:
        id: of the row.
        question: in words.
        category: name of the target.
        super_category: of the category.
        modality: in the data set's words.
        patient: pseudonym, or the key of the image where the data set tells no patient.
        licence: of the row.
        target_present: whether the target is on the image.
        outcome: of the answer.
        fault: type of the fault of an answer that could not be read.
        bbox: x1, y1, x2, y2, edge based; it may reach beyond the image.
        point_1: first key point.
        point_2: second key point.
        box_iou: 0...1.
        pdice: Dice of the discs, 0...1.
        pdice_as_released: the published pDice, 0...2.
        dice: of the mask from box and points, or from the box of a segmenter that takes no points.
        dice_points: of the mask from the points alone.
        dice_box: of the mask from the box alone.
        surface_dice: of the mask of ``dice``, 0...1.
        hausdorff95_px: likewise; ``None`` without a mask.
        dice_true_prompts: of the mask from the true box and points.
        dice_true_points: of the mask from the true points alone.
        dice_true_box: of the mask from the true box alone.
        dice_jittered_box: of the mask from the true box, drawn as a hand might draw it.
        completion: the reasoner's text.
        reason_s: seconds of the batch's answers by its questions.
        segment_s: seconds of all masks.
    """

    id: str
    question: str
    category: str
    super_category: str
    modality: str
    patient: str
    licence: str
    target_present: bool
    outcome: Outcome
    fault: str | None = None
    bbox: XYXY | None = None
    point_1: XY | None = None
    point_2: XY | None = None
    box_iou: float | None = None
    pdice: float | None = None
    pdice_as_released: float | None = None
    dice: float | None = None
    dice_points: float | None = None
    dice_box: float | None = None
    surface_dice: float | None = None
    hausdorff95_px: float | None = None
    dice_true_prompts: float | None = None
    dice_true_points: float | None = None
    dice_true_box: float | None = None
    dice_jittered_box: float | None = None
    completion: str | None = None
    reason_s: float = 0.0
    segment_s: float = 0.0


_ROWS = TypeAdapter(list[Prediction])


class Journal(JsonLines[list[Prediction]]):
    """The batches of a run so far, in the order in which they were made.

    Args:
        path: of the journal's file; what a kill left unfinished at its end is cut off.

    Raises:
        EvaluationRunError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        damaged = EvaluationRunError(
            f"{path.name} is damaged. Remove it to answer the questions again, or give a new "
            "folder."
        )
        super().__init__(path, damaged, _ROWS.validate_json, _as_json)

    def remove(self) -> None:
        """Once the parquet file is there."""
        self.path.unlink(missing_ok=True)


def _as_json(batch: list[Prediction]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(each) for each in batch]


def write_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    """Write the parquet file, whole or not at all.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    schema = _schema()
    from pyarrow import Table
    from pyarrow.parquet import write_table

    rows = [dataclasses.asdict(each) for each in predictions]
    with replacing(path, durable=True) as unfinished:
        write_table(Table.from_pylist(rows, schema), unfinished)


def read_predictions(path: Path) -> list[Prediction]:
    """Read such a file.

    Raises:
        EvaluationRunError: it is missing, or of another form.
        MissingExtraError: pyarrow is not installed.
    """
    names = _schema().names
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import read_table

    try:
        return _ROWS.validate_python(read_table(path, columns=names).to_pylist())
    except (FileNotFoundError, ArrowInvalid, ValueError) as error:
        raise EvaluationRunError(
            f"{path.parent.name} holds no {path.name} of this version ({type(error).__name__}). "
            "Give the folder that 'medreasoner evaluate' wrote."
        ) from error


def _schema() -> Schema:
    try:
        import pyarrow as pa
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyarrow", "train") from error
    types: Mapping[str, Any] = {
        "str": pa.string(), "bool": pa.bool_(), "float": pa.float64(), "Outcome": pa.string(),
        "XYXY": pa.list_(pa.float64()), "XY": pa.list_(pa.float64()),
    }  # fmt: skip
    fields = dataclasses.fields(Prediction)
    return pa.schema([(f.name, types[str(f.type).removesuffix(" | None")]) for f in fields])
