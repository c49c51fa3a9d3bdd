# SPDX-License-Identifier: Apache-2.0
"""Rewards of the box: overlap, edges, size and shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.types import XY, XYXY
from medreasoner_training.rewards.ground_truth import GroundTruth
from medreasoner_training.rewards.smoothing import exp_smooth, log_smooth, penalise

_DIAGONAL_OFFSET = 1e-5
_LOG_OFFSET = 1e-6
_HALF_VALID = 0.5


@dataclass(frozen=True, slots=True)
class BoxMeasure:
    """A predicted box against the true one.

    ``edge_offset`` is the mean absolute edge difference in diagonals of the true box, at most 2.
    ``shape_change`` is the length of (change of log area, change of log aspect), at most 1. Both
    are ``None`` in soft mode, which does not ask for them. ``points_valid`` is 1, halved for each
    true key point outside the predicted box; ``area_valid`` is 1 if the area is off by less than
    a factor of 2, else 0.5.
    """

    iou: float
    edge_offset: float | None
    shape_change: float | None
    points_valid: float
    area_valid: float

    def terms(self) -> dict[str, float]:
        """The measured terms by their released names, with the validities that penalise them."""
        position, area = self.points_valid, self.area_valid
        values = {
            "bbox_iou": penalise(log_smooth(self.iou), position, area),
            "bbox_position_valid": position,
            "bbox_area_valid": area,
        }
        if self.edge_offset is not None and self.shape_change is not None:
            align, scale = exp_smooth(self.edge_offset, 1.0), exp_smooth(self.shape_change, 0.5)
            values["bbox_align"] = penalise(align, position, area)
            values["bbox_scale"] = penalise(scale, position, area)
        return values


def measure_box(box: XYXY, truth: GroundTruth, hard: bool) -> BoxMeasure:
    """Measure a predicted box, in the frame of ``truth``.

    The released IoU has 1e-5 in its denominator; that is below the rounding to four places.

    Raises:
        ArithmeticError, TypeError, ValueError: only for boxes that are not four finite numbers of
            positive area; as released, they void the box.
    """
    true_box = truth.bbox_xyxy_px
    area, true_area = box_area_px(box), box_area_px(true_box)
    return BoxMeasure(
        iou=box_iou(box, true_box),
        edge_offset=_edge_offset(box, true_box) if hard else None,
        shape_change=_shape_change(box, true_box) if hard else None,
        points_valid=inside_share(truth.points_xy_px, box),
        area_valid=1.0 if true_area / 2 < area < 2 * true_area else _HALF_VALID,
    )


def inside_share(points: tuple[XY, XY], box: XYXY) -> float:
    """1, halved for each point outside the box (edges belong to it)."""
    x1, y1, x2, y2 = box
    share = 1.0
    for x, y in points:
        if not (x1 <= x <= x2 and y1 <= y <= y2):
            share *= _HALF_VALID
    return share


def box_area_px(box: XYXY) -> float:
    """Area of a box; 0 where its corners are reversed."""
    x1, y1, x2, y2 = box
    return max(x2 - x1, 0) * max(y2 - y1, 0)


def box_diagonal_px(box: XYXY) -> float:
    """Length of the diagonal, offset so that it is never 0."""
    return math.hypot(box[2] - box[0], box[3] - box[1]) + _DIAGONAL_OFFSET


def mean_edge_difference_px(box: XYXY, true_box: XYXY) -> float:
    """Mean absolute difference of the four edges."""
    x1, y1, x2, y2 = box
    a1, b1, a2, b2 = true_box
    return (abs(x1 - a1) + abs(y1 - b1) + abs(x2 - a2) + abs(y2 - b2)) / 4


def _edge_offset(box: XYXY, true_box: XYXY) -> float:
    return min(mean_edge_difference_px(box, true_box) / box_diagonal_px(true_box), 2.0)


def _shape_change(box: XYXY, true_box: XYXY) -> float:
    (area, aspect), (true_area, true_aspect) = _area_and_aspect(box), _area_and_aspect(true_box)
    return min(math.hypot(math.log(area / true_area), math.log(aspect / true_aspect)), 1.0)


def _area_and_aspect(box: XYXY) -> tuple[float, float]:
    width, height = box[2] - box[0], box[3] - box[1]
    return width * height + _LOG_OFFSET, width / height + _LOG_OFFSET
