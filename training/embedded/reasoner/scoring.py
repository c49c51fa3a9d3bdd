# SPDX-License-Identifier: Apache-2.0
"""Scores of completions against phantom or annotated truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.answer import parse_answer
from medreasoner_infer.errors import AnswerError
from medreasoner_infer.types import Grounding

from ..phantom.anatomy import Label
from ..queries import known_targets
from .samples import SIZE_PX, Question


@dataclass(frozen=True)
class Score:
    """One scored completion.

    ``iou`` and ``points_inside`` (0, 0.5 or 1) are ``None`` for an absent target; a malformed or
    ``null`` answer to a present target scores 0.
    """

    label: Label
    present: bool
    well_formed: bool
    named: bool
    says_present: bool
    says_absent: bool
    iou: float | None
    points_inside: float | None


def read_strictly(completion: str, size_px: int = SIZE_PX) -> Grounding | None:
    """The grounding of a completion that keeps to the format, else ``None``."""
    try:
        return parse_answer(completion, image_size=size_px)
    except AnswerError:
        return None


def score(question: Question, completion: str) -> Score:
    """Read a completion strictly, and compare it with the truth of its question."""
    grounding = read_strictly(completion)
    truth = question.truth
    iou = inside = None
    if truth is not None:
        iou = inside = 0.0
        box = None if grounding is None else grounding.bbox_xyxy_px
        points = None if grounding is None else grounding.points_xy_px
        if box is not None and points is not None:
            iou = box_iou(box, truth.bbox_xyxy_px)
            inside = float(np.mean([truth.mask[int(y), int(x)] for x, y in points]))
    return Score(
        label=question.label,
        present=truth is not None,
        well_formed=grounding is not None,
        named=f"points to the {known_targets()[question.label].name}," in completion,
        says_present=grounding is not None and grounding.present,
        says_absent=grounding is not None and grounding.outcome == "absent",
        iou=iou,
        points_inside=inside,
    )


def mean_with_interval(
    values: Sequence[float] | np.ndarray, draws: int = 1000, seed: int = 0
) -> dict:
    """Mean, its 95 % bootstrap interval and the number of values."""
    if not len(values):
        return {"mean": None, "low": None, "high": None, "n": 0}
    array = np.asarray(values, float)
    picks = np.random.default_rng(seed).integers(0, len(array), (draws, len(array)))
    low, high = np.percentile(array[picks].mean(1), (2.5, 97.5))
    return {
        "mean": round(float(array.mean()), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "n": len(array),
    }


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def summarise(scores: Sequence[Score]) -> dict:
    """Means with intervals over all scores, and box IoU for each target."""
    present = [s for s in scores if s.present]
    absent = [s for s in scores if not s.present]
    labels = sorted({s.label for s in present})
    ious = _known(s.iou for s in present)
    return {
        "well_formed": mean_with_interval([s.well_formed for s in scores]),
        "named": mean_with_interval([s.named for s in scores]),
        "box_iou": mean_with_interval(ious),
        "box_iou_above_half": mean_with_interval([iou > 0.5 for iou in ious]),
        "points_inside": mean_with_interval(_known(s.points_inside for s in present)),
        "present_found": mean_with_interval([s.says_present for s in present]),
        "absent_refused": mean_with_interval([s.says_absent for s in absent]),
        "box_iou_by_target": {
            known_targets()[label].name: mean_with_interval(
                _known(s.iou for s in present if s.label == label)
            )
            for label in labels
        },
    }
