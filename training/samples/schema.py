# SPDX-License-Identifier: Apache-2.0
"""Rows of the data set: the columns of U-MRG-14K and ours beside them, written and read.

U-MRG-14K tells ``id``, ``supercategory``, ``category`` and ``index`` in ``extra_info``; our own
files tell more there, and no ``supercategory``. Both kinds are read by :func:`stored_row`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.types import XY, XYXY
from medreasoner_training.samples.cases import Sample
from medreasoner_training.samples.errors import RowSchemaError

if TYPE_CHECKING:
    from datasets import Features

DATA_SOURCE = "medreasoner_site"
#: Columns without which a row is none of U-MRG-14K.
NEEDED_COLUMNS = ("images", "masks", "prompt", "reward_model", "extra_info")
_PICTURE_MARK = "<image>"


@dataclass(frozen=True, eq=False)
class StoredRow:
    """A row as it is stored; what U-MRG-14K does not tell is ``None``.

    Attributes:
        id: as the data set tells it.
        question: without the mark of the image's place that trainers put before it.
        image: as the column holds it, encoded or decoded.
        mask: likewise; ``None`` where the row has none.
        ground_truth: JSON text in pixels of the image, ``null`` for an absent target.
        category: name of the target.
        super_category: of the category.
        modality: of the image.
        patient: pseudonym.
        reasoning: stored trace.
        licence: of the row.
        may_train: whether the licence lets the row be trained on.
        kind: ``implicit`` or ``explicit``.
        language: of the question.
    """

    id: str
    question: str
    image: Any
    mask: Any
    ground_truth: str | None
    category: str
    super_category: str | None = None
    modality: str | None = None
    patient: str | None = None
    reasoning: str | None = None
    licence: str | None = None
    may_train: bool | None = None
    kind: str | None = None
    language: str | None = None


def require_columns(names: Collection[str]) -> None:
    """Refuse a table that is none of U-MRG-14K.

    Raises:
        RowSchemaError: naming the columns that it lacks.
    """
    missing = [name for name in NEEDED_COLUMNS if name not in names]
    if missing:
        raise RowSchemaError(
            f"The table lacks the column(s) {', '.join(missing)}; expected those of U-MRG-14K: "
            f"{', '.join(NEEDED_COLUMNS)}. Give a parquet file of that schema."
        )


def stored_row(row: Mapping[str, Any]) -> StoredRow:
    """Read a row of U-MRG-14K or of our own data set.

    Raises:
        RowSchemaError: a column is missing, or holds something else.
    """
    require_columns(row)
    try:
        info, truth = row["extra_info"], row["reward_model"]["ground_truth"]
        return StoredRow(
            id=str(info.get("id", "")),
            question=question_of(row["prompt"]),
            image=row["images"][0],
            mask=next(iter(row["masks"] or ()), None),
            ground_truth=truth,
            category=info["category"],
            super_category=info.get("supercategory"),
            modality=info.get("modality"),
            patient=info.get("patient_key"),
            reasoning=info.get("reasoning"),
            licence=info.get("licence"),
            may_train=info.get("may_train"),
            kind=info.get("query_kind"),
            language=info.get("language"),
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise RowSchemaError(
            f"A row has not the form of U-MRG-14K ({type(error).__name__}); expected one image in "
            "images, the question in prompt[0].content, JSON in reward_model.ground_truth, and "
            "category in extra_info."
        ) from error


def question_of(prompt: Sequence[Mapping[str, str]]) -> str:
    """The question in a row's column ``prompt``, without the mark of the image's place."""
    return prompt[0]["content"].replace(_PICTURE_MARK, "").strip()


def features() -> Features:
    """The columns.

    ``images`` and ``masks`` hold one picture each, ``prompt`` one message with the question,
    ``reward_model.ground_truth`` a JSON text with ``bbox_2d`` and ``point_2d`` in reasoner px, or
    ``null`` for an absent target.
    """
    from datasets import Features, Image, List, Value

    text, number = Value("string"), Value("int64")
    return Features(
        {
            "images": List(Image()),
            "masks": List(Image()),
            "prompt": List({"role": text, "content": text}),
            "reward_model": {"style": text, "ground_truth": text},
            "extra_info": {
                "id": text,
                "index": number,
                "category": text,
                "present": Value("bool"),
                "plane": text,
                "slice_index": number,
                "modality": text,
                "window": text,
                "query_source": text,
                "query_model": text,
                "query_prompt_version": text,
                "inference_id": text,
                "reasoning": text,
                "prompts": text,
                "case_key": text,
                "patient_key": text,
            },
            "data_source": text,
        }
    )


def to_row(sample: Sample, index: int) -> dict[str, Any]:
    """A sample as a row; ``index`` is its place in the split."""
    question, truth = sample.question, ground_truth_json(sample.bbox_xyxy_px, sample.points_xy_px)
    return {
        "images": [_png(sample.image)],
        "masks": [_png(np.where(sample.mask, 255, 0).astype(np.uint8))],
        "prompt": [{"role": "user", "content": question.text}],
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {
            "id": sample_id(sample),
            "index": index,
            "category": sample.label_name,
            "present": sample.present,
            "plane": sample.plane.value,
            "slice_index": sample.slice_index,
            "modality": sample.modality,
            "window": sample.window,
            "query_source": question.source.value,
            "query_model": question.model,
            "query_prompt_version": question.prompt_version,
            "inference_id": question.inference_id,
            "reasoning": question.reasoning,
            "prompts": question.prompts,
            "case_key": sample.case_key,
            "patient_key": sample.patient_key,
        },
        "data_source": DATA_SOURCE,
    }


def ground_truth_json(bbox_xyxy_px: XYXY | None, points_xy_px: tuple[XY, XY] | None) -> str:
    """``{"bbox_2d": [x1, y1, x2, y2], "point_2d": [[x, y], [x, y]]}`` or ``null``; reasoner px."""
    if bbox_xyxy_px is None:
        return "null"
    return json.dumps({"bbox_2d": bbox_xyxy_px, "point_2d": points_xy_px})


def sample_id(sample: Sample) -> str:
    """16 hexadecimal digits; equal for the same question about the same target on a slice."""
    parts = (
        sample.case_key,
        sample.label_name,
        sample.plane.value,
        str(sample.slice_index),
        sample.question.text,
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _png(pixels: NDArray[np.uint8]) -> dict[str, bytes | None]:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return {"bytes": stream.getvalue(), "path": None}
