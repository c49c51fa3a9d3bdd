# SPDX-License-Identifier: Apache-2.0
"""*Base* rewards: hits of 0 or 1 in the manner of Seg-Zero (arXiv 2503.06520).

As released, the code of both box hits raises for every completion and the exception is swallowed,
so that they are 0 even for a perfect answer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.answer.values import KEYS
from medreasoner_training.rewards.box_terms import inside_share, mean_edge_difference_px
from medreasoner_training.rewards.ground_truth import GroundTruth
from medreasoner_training.rewards.point_terms import nearer_distance_px
from medreasoner_training.rewards.reading import WELL_FORMED, Reading

IOU_ABOVE = 0.5
EDGES_BELOW_PX = 10.0
POINTS_BELOW_PX = 100.0

_BETWEEN = re.compile(r"</think>\s*<answer>")
_FLAT_OBJECT = re.compile(r"\{[^{}]*\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class BaseMeasure:
    """What the hits are decided on; ``None`` where there is nothing to measure.

    ``edges_off_px`` is the mean absolute edge difference. ``points_off_px`` is the mean Euclidean
    distance of the key points in their nearer pairing. ``points_in_own_box`` tells whether both
    predicted points lie in the predicted box.
    """

    strict_format: bool
    well_formed: bool
    iou: float | None = None
    edges_off_px: float | None = None
    points_off_px: float | None = None
    points_in_own_box: bool = False

    def terms(self) -> dict[str, float]:
        """The hits by their released names."""
        points_near = self.points_off_px is not None and self.points_off_px < POINTS_BELOW_PX
        return {
            "thinking": float(self.strict_format),
            "segment": float(self.well_formed),
            "iou": float(self.iou is not None and self.iou > IOU_ABOVE),
            "bbox_l1": float(self.edges_off_px is not None and self.edges_off_px < EDGES_BELOW_PX),
            "points_l1": float(points_near and self.points_in_own_box),
        }


def has_strict_format(completion: str) -> bool:
    """Whether a trace and an answer are the whole completion."""
    if not (completion.startswith("<think>") and completion.endswith("</answer>")):
        return False
    last = len(completion) - len("</answer>")
    return _BETWEEN.search(completion, len("<think>"), last) is not None


def measure_base(completion: str, reading: Reading, truth: GroundTruth) -> BaseMeasure:
    """Measure a completion; the answer's box and points count where they can be read."""
    box, points = reading.bbox_xyxy_px, reading.points_xy_px
    strict, well_formed = has_strict_format(completion), reading.answer_credit == WELL_FORMED
    if box is None:
        return BaseMeasure(strict, well_formed)
    return BaseMeasure(
        strict,
        well_formed,
        iou=box_iou(box, truth.bbox_xyxy_px),
        edges_off_px=mean_edge_difference_px(box, truth.bbox_xyxy_px),
        points_off_px=None if points is None else nearer_distance_px(points, truth.points_xy_px),
        points_in_own_box=points is not None and inside_share(points, box) == 1.0,
    )


def measure_base_as_released(completion: str, truth: GroundTruth) -> BaseMeasure:
    """Measure the first ``{…}`` of the completion, wherever it stands; box hits never fire."""
    strict = has_strict_format(completion)
    found = _FLAT_OBJECT.search(completion)
    try:
        body: Any = json.loads(found.group()) if found else None
        lengths = [len(body[key]) for key in KEYS]
    except (ValueError, TypeError, KeyError):
        return BaseMeasure(strict, False)
    if lengths != [4, 2, 2]:
        return BaseMeasure(strict, False)
    try:
        (x1, y1), (x2, y2) = body["points_1"], body["points_2"]
        points = (int(x1), int(y1)), (int(x2), int(y2))
        inside = inside_share(points, body["bbox"]) == 1.0
        points_off_px = nearer_distance_px(points, truth.points_xy_px)
    except (ArithmeticError, TypeError, ValueError):
        return BaseMeasure(strict, True)
    return BaseMeasure(strict, True, None, None, points_off_px, inside)
