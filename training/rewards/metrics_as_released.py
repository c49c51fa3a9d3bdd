# SPDX-License-Identifier: Apache-2.0
"""The two evaluation metrics of a completion on the scale of the published tables."""

from __future__ import annotations

import math
from collections.abc import Mapping

from medreasoner_infer.agreement import box_iou
from medreasoner_training.rewards.errors import GroundTruthError
from medreasoner_training.rewards.ground_truth import read_ground_truth
from medreasoner_training.rewards.point_terms import Points, common_area_of_discs
from medreasoner_training.rewards.reading import WELL_FORMED
from medreasoner_training.rewards.reading_as_released import read_completion_as_released

_PDICE_OFFSET = 1e-5


def metrics_as_released(
    completion: str, ground_truth: Mapping[str, object] | str
) -> dict[str, float] | None:
    """Box ``iou`` in 0...1 and ``pdice`` in 0...2 of one completion.

    The published pDice divides by the union, so two identical pairs of points score 2.

    Returns:
        ``None`` where the released evaluation raises, i.e. for an answer that is not well formed.

    Raises:
        GroundTruthError: the ground truth is malformed or absent.
    """
    truth = read_ground_truth(ground_truth)
    if truth is None:
        raise GroundTruthError("The target is absent; the released metrics need a box and points.")
    reading = read_completion_as_released(completion)
    box, points = reading.bbox_xyxy_px, reading.points_xy_px
    if reading.answer_credit != WELL_FORMED or box is None or points is None:
        return None
    return {
        "iou": box_iou(box, truth.bbox_xyxy_px),
        "pdice": pdice_as_released(points, truth.points_xy_px),
    }


def pdice_as_released(points: Points, true_points: Points) -> float:
    """The published pDice of two pairs of key points, 0...2: the union is its denominator.

    The true Dice of the same discs is ``disc_dice`` of
    :func:`~medreasoner_training.rewards.point_terms.measure_points`.
    """
    radius, true_radius = math.dist(*points) / 2, math.dist(*true_points) / 2
    centre, true_centre = _middle(points), _middle(true_points)
    common = common_area_of_discs(radius, true_radius, math.dist(centre, true_centre))
    union = math.pi * (radius**2 + true_radius**2) - common
    return 2 * common / (union + _PDICE_OFFSET)


def _middle(points: Points) -> tuple[float, float]:
    (x1, y1), (x2, y2) = points
    return (x1 + x2) / 2, (y1 + y2) / 2
