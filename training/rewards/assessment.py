# SPDX-License-Identifier: Apache-2.0
"""A completion, read and measured: what both the score and its explanation are made from."""

from __future__ import annotations

from dataclasses import dataclass

from medreasoner_training.rewards.base import (
    BaseMeasure,
    has_strict_format,
    measure_base,
    measure_base_as_released,
)
from medreasoner_training.rewards.box_terms import BoxMeasure, measure_box
from medreasoner_training.rewards.config import Mode
from medreasoner_training.rewards.ground_truth import GroundTruth, Truth, require_area
from medreasoner_training.rewards.point_terms import (
    PointMeasure,
    measure_points,
    measure_points_as_released,
)
from medreasoner_training.rewards.reading import WELL_FORMED, Reading, read_completion
from medreasoner_training.rewards.reading_as_released import read_completion_as_released

RELEASED_CODE_SWALLOWS = (ArithmeticError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Assessment:
    """A completion against its ground truth.

    A measure is ``None`` where there is no target, the answer has nothing to measure, or the mode
    does not ask for it. ``box_error`` and ``points_error`` are what the
    released code swallows; they are always ``None`` otherwise.
    """

    mode: Mode
    reading: Reading
    truth: Truth
    box: BoxMeasure | None = None
    points: PointMeasure | None = None
    base: BaseMeasure | None = None
    box_error: Exception | None = None
    points_error: Exception | None = None

    @property
    def is_right_without_box(self) -> bool:
        """Whether the answer has no box and says so for the right reason."""
        if self.truth.outcome == "absent":
            return self.reading.says_absent
        return self.truth.outcome == "not_understood" and self.reading.says_not_understood


def assess(completion: str, truth: Truth, mode: Mode) -> Assessment:
    """Read and measure a completion with the defects mended.

    Raises:
        GroundTruthError: the true box has no area.
    """
    reading = read_completion(completion)
    target = truth.target
    if target is None:
        base = _format_only(completion, reading) if mode == "base" else None
        return Assessment(mode, reading, truth, base=base)
    require_area(target)
    if mode == "base":
        return Assessment(mode, reading, truth, base=measure_base(completion, reading, target))
    box, points = reading.bbox_xyxy_px, reading.points_xy_px
    return Assessment(
        mode,
        reading,
        truth,
        box=None if box is None else measure_box(box, target, mode == "hard"),
        points=None if points is None else measure_points(points, target, mode == "hard"),
    )


def _format_only(completion: str, reading: Reading) -> BaseMeasure:
    return BaseMeasure(has_strict_format(completion), reading.answer_credit == WELL_FORMED)


def assess_as_released(completion: str, target: GroundTruth, mode: Mode) -> Assessment:
    """Read and measure a completion with the released defects; it knows present targets only.

    An exception in the box family voids the whole family, likewise for the points.
    """
    truth = Truth("present", target)
    reading = read_completion_as_released(completion)
    if mode == "base":
        return Assessment(mode, reading, truth, base=measure_base_as_released(completion, target))
    box = points = box_error = points_error = None
    if reading.bbox_xyxy_px is not None:
        try:
            box = measure_box(reading.bbox_xyxy_px, target, mode == "hard")
        except RELEASED_CODE_SWALLOWS as error:
            box_error = error
    if reading.points_xy_px is not None:
        try:
            points = measure_points_as_released(reading.points_xy_px, target, mode == "hard")
        except RELEASED_CODE_SWALLOWS as error:
            points_error = error
    return Assessment(
        mode, reading, truth, box, points, box_error=box_error, points_error=points_error
    )
