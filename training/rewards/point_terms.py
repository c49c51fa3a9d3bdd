# SPDX-License-Identifier: Apache-2.0
"""Rewards of the two key points: the disc and the axis they span, and their distance."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medreasoner_infer.types import XY
from medreasoner_training.rewards.box_terms import box_diagonal_px, inside_share
from medreasoner_training.rewards.ground_truth import GroundTruth
from medreasoner_training.rewards.smoothing import exp_smooth, log_smooth, penalise

SPREAD_PX = 10.0
_CONTACT_PX = 1e-5
_SAME_PX = 1e-6
Points = tuple[XY, XY]


@dataclass(frozen=True, slots=True)
class PointMeasure:
    """Two predicted key points against the true ones; none of it depends on their order.

    ``disc_dice`` compares the discs whose diameters the two pairs are: 0...1, as released 0...2.
    ``axis_agreement`` is |cos| of the angle between the two diameters, 0...1. ``overlap`` is what
    ``points_dice`` rewards. ``offset`` is the mean absolute coordinate difference of the better
    pairing in diagonals of the true box, at most 2; soft mode does not ask for it and has ``None``.
    ``points_valid`` is 1, halved for each predicted point outside the true box; ``spread_valid`` is
    0.5 for points too close together, else 1.
    """

    disc_dice: float
    axis_agreement: float
    overlap: float
    offset: float | None
    points_valid: float
    spread_valid: float

    def terms(self) -> dict[str, float]:
        """The measured terms by their released names, with the validities that penalise them."""
        position, spread = self.points_valid, self.spread_valid
        values = {
            "points_dice": penalise(log_smooth(self.overlap), position, spread),
            "points_position_valid": position,
            "points_spread_valid": spread,
        }
        if self.offset is not None:
            align, angle = exp_smooth(self.offset, 1.0), log_smooth(self.axis_agreement)
            values["points_align"] = penalise(align, position, spread)
            values["points_angle"] = penalise(angle, position, spread)
        return values


def measure_points(points: Points, truth: GroundTruth, hard: bool) -> PointMeasure:
    """Measure predicted key points; two answers of one disc but another axis differ."""
    true_points = truth.points_xy_px
    length, true_length = points_distance_px(points), points_distance_px(true_points)
    common, area, true_area = _disc_areas(points, true_points)
    dice = 2 * common / (area + true_area)
    # Below the spread that the task asks for, a diameter has less and less of a direction.
    weight = min(1.0, true_length / SPREAD_PX)
    agreement = 1.0 - weight * (1.0 - _axis_cosine(points, true_points))
    spread = length > SPREAD_PX or length >= true_length - _SAME_PX
    return PointMeasure(
        disc_dice=dice,
        axis_agreement=agreement,
        overlap=dice * agreement,
        offset=_offset(points, truth) if hard else None,
        points_valid=inside_share(points, truth.bbox_xyxy_px),
        spread_valid=1.0 if spread else 0.5,
    )


def measure_points_as_released(points: Points, truth: GroundTruth, hard: bool) -> PointMeasure:
    """Measure with the union as denominator (identical pairs score 2) and for any axis.

    Raises:
        ArithmeticError, TypeError, ValueError: the points are not two pairs of numbers.
    """
    true_points = truth.points_xy_px
    common, area, true_area = _disc_areas(points, true_points)
    dice = 2 * common / (area + true_area - common + _CONTACT_PX)
    return PointMeasure(
        disc_dice=dice,
        axis_agreement=_axis_cosine(points, true_points),
        overlap=dice,
        offset=_offset(points, truth) if hard else None,
        points_valid=inside_share(points, truth.bbox_xyxy_px),
        spread_valid=1.0 if points_distance_px(points) > SPREAD_PX else 0.5,
    )


def nearer_distance_px(points: Points, true_points: Points) -> float:
    """Mean distance to the true points, in the order in which it is smaller."""
    (first, second), (true_first, true_second) = points, true_points
    kept = math.dist(first, true_first) + math.dist(second, true_second)
    swapped = math.dist(second, true_first) + math.dist(first, true_second)
    return min(kept, swapped) / 2


def points_distance_px(points: Points) -> float:
    """Distance between the two points of a pair."""
    (x1, y1), (x2, y2) = points
    return math.hypot(x2 - x1, y2 - y1)


def _offset(points: Points, truth: GroundTruth) -> float:
    (ax, ay), (bx, by) = points
    (tx, ty), (ux, uy) = truth.points_xy_px
    kept = abs(ax - tx) + abs(ay - ty) + abs(bx - ux) + abs(by - uy)
    swapped = abs(bx - tx) + abs(by - ty) + abs(ax - ux) + abs(ay - uy)
    return min(min(kept, swapped) / 4 / box_diagonal_px(truth.bbox_xyxy_px), 2.0)


def _axis_cosine(points: Points, true_points: Points) -> float:
    """|cos| of the angle between two diameters; 0 where one of them has no length."""
    (ax, ay), (bx, by) = points
    (cx, cy), (dx, dy) = true_points
    lengths = math.hypot(bx - ax, by - ay) * math.hypot(dx - cx, dy - cy)
    if lengths == 0:
        return 0.0
    return min(abs((bx - ax) * (dx - cx) + (by - ay) * (dy - cy)) / lengths, 1.0)


def _disc_areas(points: Points, true_points: Points) -> tuple[float, float, float]:
    """Common area of the two discs, and the area of each."""
    (ax, ay), (bx, by) = points
    (cx, cy), (dx, dy) = true_points
    radius = math.hypot(bx - ax, by - ay) / 2 + _CONTACT_PX
    true_radius = math.hypot(dx - cx, dy - cy) / 2 + _CONTACT_PX
    distance = math.hypot((ax + bx - cx - dx) / 2, (ay + by - cy - dy) / 2)
    common = common_area_of_discs(radius, true_radius, distance)
    return common, math.pi * radius**2, math.pi * true_radius**2


def common_area_of_discs(first: float, second: float, distance: float) -> float:
    """Area of the lens that two discs share.

    Args:
        first: radius of one disc.
        second: radius of the other disc.
        distance: between their centres. Discs that touch within 1e-5 count as touching.

    Returns:
        The two circular segments on either side of the common chord (https://mathworld.wolfram.com/
        Circle-CircleIntersection.html), in the square of the radii's unit.
    """
    if distance >= first + second - _CONTACT_PX:
        return 0.0
    if distance <= abs(first - second) + _CONTACT_PX:
        return math.pi * min(first, second) ** 2
    chord = (distance**2 + first**2 - second**2) / (2 * distance)
    return _segment(first, chord) + _segment(second, distance - chord)


def _segment(radius: float, chord_distance: float) -> float:
    """Area of the disc beyond a chord at a signed distance from its centre."""
    cosine = min(max(chord_distance / radius, -1.0), 1.0)
    half_chord = math.sqrt(max(radius**2 - chord_distance**2, 0.0))
    return radius**2 * math.acos(cosine) - chord_distance * half_chord
