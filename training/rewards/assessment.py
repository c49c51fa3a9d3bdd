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
from medreasoner_training.rewards.ground_truth import GroundTruth, require_area
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

    ``truth`` is ``None`` for an absent target. A measure is ``None`` where the answer has nothing
    to measure or the mode does not ask for it. ``box_error`` and ``points_error`` are what the
    released code swallows; they are always ``None`` otherwise.
    """

    mode: Mode
    reading: Reading
    truth: GroundTruth | None
    box: BoxMeasure | None = None
    points: PointMeasure | None = None
    base: BaseMeasure | None = None
    box_error: Exception | None = None
    points_error: Exception | None = None


def assess(completion: str, truth: GroundTruth | None, mode: Mode) -> Assessment:
    """Read and measure a completion with the defects mended.

    Raises:
        GroundTruthError: the true box has no area.
    """
    reading = read_completion(completion)
    if truth is None:
        base = _base_of_absent(completion, reading) if mode == "base" else None
        return Assessment(mode, reading, None, base=base)
    require_area(truth)
    if mode == "base":
        return Assessment(mode, reading, truth, base=measure_base(completion, reading, truth))
    box, points = reading.bbox_xyxy_px, reading.points_xy_px
    return Assessment(
        mode,
        reading,
        truth,
        box=None if box is None else measure_box(box, truth, mode == "hard"),
        points=None if points is None else measure_points(points, truth, mode == "hard"),
    )


def _base_of_absent(completion: str, reading: Reading) -> BaseMeasure:
    return BaseMeasure(has_strict_format(completion), reading.answer_credit == WELL_FORMED)


def assess_as_released(completion: str, truth: GroundTruth, mode: Mode) -> Assessment:
    """Read and measure a completion with the released defects.

    An exception in the box family voids the whole family, likewise for the points.
    """
    reading = read_completion_as_released(completion)
    if mode == "base":
        return Assessment(mode, reading, truth, base=measure_base_as_released(completion, truth))
    box = points = box_error = points_error = None
    if reading.bbox_xyxy_px is not None:
        try:
            box = measure_box(reading.bbox_xyxy_px, truth, mode == "hard")
        except RELEASED_CODE_SWALLOWS as error:
            box_error = error
    if reading.points_xy_px is not None:
        try:
            points = measure_points_as_released(reading.points_xy_px, truth, mode == "hard")
        except RELEASED_CODE_SWALLOWS as error:
            points_error = error
    return Assessment(
        mode, reading, truth, box, points, box_error=box_error, points_error=points_error
    )
