# SPDX-License-Identifier: Apache-2.0
"""Each term against a value computed by hand from the paper's formulas."""

from __future__ import annotations

import json
import math

import pytest

from medreasoner_training.rewards import (
    GroundTruthError,
    RewardConfigError,
    read_ground_truth,
    score,
)
from medreasoner_training.rewards.point_terms import common_area_of_discs
from medreasoner_training.rewards.smoothing import exp_smooth, log_smooth, penalise

BOX_TRUTH = {"bbox_2d": [0, 0, 100, 50], "point_2d": [[25, 25], [75, 25]]}
POINT_TRUTH = {"bbox_2d": [-5, -10, 40, 10], "point_2d": [[0, 0], [20, 0]]}


def say(bbox, first, second, think="Left lobe."):
    answer = json.dumps({"bbox": bbox, "points_1": first, "points_2": second})
    return f"<think>{think}</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("overlap", "expected"),
    # 0.9 ln(3v + 1) / ln 4 + 0.1; at v = 1/3 the quotient is ln 2 / ln 4.
    [(0.0, 0.1), (1 / 3, 0.55), (0.5, 0.694868), (1.0, 1.0)],
)
def test_log_smoothing(overlap, expected):
    assert log_smooth(overlap) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("deviation", "centre", "expected"),
    # Logistic values at 0 and 2 are 0.952574 and 0.047426 (c = 1), 0.817574 and 0.010987 (c = 0.5).
    [(0, 1, 1.0), (1, 1, 0.55), (2, 1, 0.1), (0, 0.5, 1.0), (2, 0.5, 0.1), (1, 0.5, 0.291293)],
)
def test_exp_smoothing(deviation, centre, expected):
    assert exp_smooth(deviation, centre) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("reward", "first", "second", "expected"),
    [
        (1, 1, 1, 1.0),
        (1, 0.5, 1, 0.925),
        (1, 0.25, 0.5, 0.8125),
        (1.36, 1, 1, 1.0),
        (0.12346, 1, 1, 0.1235),
    ],
)
def test_penalty(reward, first, second, expected):
    assert penalise(reward, first, second) == pytest.approx(expected, abs=1e-12)


def test_box_terms_of_the_left_half():
    values = score(say([0, 0, 50, 50], [25, 25], [75, 25]), BOX_TRUTH, "hard")
    # One of two true points inside; exactly half the area is not more than half. Factor 0.85.
    assert values["bbox_position_valid"] == 0.5
    assert values["bbox_area_valid"] == 0.5
    # IoU 1/2.
    assert values["bbox_iou"] == pytest.approx(0.85 * 0.694868, abs=5e-5)
    # One edge off by 50 px: a mean of 12.5 px over the diagonal 111.803 px is 0.111803.
    assert values["bbox_align"] == pytest.approx(0.85 * 0.982430, abs=5e-5)
    # Area and aspect both halved: sqrt(2) ln 2 = 0.980258.
    assert values["bbox_scale"] == pytest.approx(0.85 * 0.301336, abs=5e-5)


def test_point_terms_of_a_disc_shifted_by_its_radius():
    values = score(say([-5, -10, 40, 10], [10, 0], [30, 0]), POINT_TRUTH, "hard")
    assert values["points_position_valid"] == values["points_spread_valid"] == 1.0
    # Lens of two discs of radius r at distance r: r^2 (2 pi / 3 - sqrt(3) / 2); Dice 0.391002.
    assert values["points_dice"] == pytest.approx(0.603863, abs=5e-5)
    # Mean difference 5 px over the diagonal 49.2443 px is 0.101535.
    assert values["points_align"] == pytest.approx(0.984271, abs=5e-5)
    assert values["points_angle"] == 1.0


@pytest.mark.parametrize(
    ("degrees", "dice", "as_released"),
    # The same disc each time: Dice 1 times |cos|; released 2 / 1, clipped, for any axis.
    [(0, 1.0, 1.0), (45, 0.8390, 1.0), (90, 0.1, 1.0), (180, 1.0, 1.0)],
)
def test_points_of_the_same_disc_differ_by_their_axis(degrees, dice, as_released):
    x, y = 10 * math.cos(math.radians(degrees)), 10 * math.sin(math.radians(degrees))
    text = say([-5, -10, 40, 10], [10 - x, -y], [10 + x, y])
    assert score(text, POINT_TRUTH)["points_dice"] == pytest.approx(dice, abs=5e-5)
    released = score(text, POINT_TRUTH, as_released=True)["points_dice"]
    assert released == pytest.approx(as_released, abs=5e-5)


def test_half_the_overlap_saturates_as_released_only():
    # Concentric discs of radius 10 and 8, one inside the other: areas 100 : 64.
    text = say([-5, -10, 40, 10], [2, 0], [18, 0])
    assert score(text, POINT_TRUTH, as_released=True)["points_dice"] == 1.0
    # Dice 128 / 164 = 0.780488: 0.9 ln(3.341463) / ln 4 + 0.1.
    assert score(text, POINT_TRUTH)["points_dice"] == pytest.approx(0.883221, abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "distance", "area"),
    [
        (1, 1, 2, 0.0),
        (1, 2, 5, 0.0),
        (1, 3, 1, math.pi),
        (2, 2, 0, 4 * math.pi),
        (1, 1, 1, 2 * math.pi / 3 - math.sqrt(3) / 2),
        # A chord through both: circles of radius 1 and sqrt(2) - their centres 1 apart - cross at
        # right angles to one radius: half the small disc, and a quarter disc less a triangle.
        (1, math.sqrt(2), 1, math.pi / 2 + math.pi / 2 - 1),
    ],
)
def test_common_area_of_discs(first, second, distance, area):
    assert common_area_of_discs(first, second, distance) == pytest.approx(area, abs=1e-4)
    assert common_area_of_discs(second, first, distance) == pytest.approx(area, abs=1e-4)


@pytest.mark.parametrize(
    ("first", "second", "spread"),
    # The true points are 20 px apart.
    [([5, 0], [15, 0], 0.5), ([5, 0], [15.1, 0], 1.0), ([5, 0], [5, 0], 0.5), ([0, 0], [20, 0], 1)],
)
def test_points_within_ten_pixels_are_penalised(first, second, spread):
    values = score(say([-5, -10, 40, 10], first, second), POINT_TRUTH)
    assert values["points_spread_valid"] == spread


@pytest.mark.parametrize("second", [[3, 0], [0, 0]])
def test_a_target_too_small_for_the_spread_can_be_answered_perfectly(second):
    truth = {"bbox_2d": [-4, -2, 6, 3], "point_2d": [[0, 0], second]}
    assert score(say([-4, -2, 6, 3], [0, 0], second), truth, "hard")["score"] == 8.0


@pytest.mark.parametrize(
    ("first", "second", "position"),
    [
        ([0, 0], [20, 0], 1.0),
        ([0, 0], [40, 10], 1.0),
        ([0, 0], [41, 0], 0.5),
        ([99, 0], [0, 11], 0.25),
    ],
)
def test_points_outside_the_true_box_are_penalised(first, second, position):
    values = score(say([-5, -10, 40, 10], first, second), POINT_TRUTH)
    assert values["points_position_valid"] == position


@pytest.mark.parametrize(
    ("bbox", "first", "second", "iou", "edges", "points"),
    [
        # IoU 60 / 100, edges off by 10 px on average, which is not below 10.
        ([0, 0, 60, 50], [25, 25], [55, 25], 1, 0, 1),
        # One edge off by 39 px: 9.75 px.
        ([0, 0, 61, 50], [25, 25], [55, 25], 1, 1, 1),
        # IoU exactly 1/2 is no hit.
        ([0, 0, 50, 50], [25, 25], [45, 25], 0, 0, 1),
        # A point outside the own box.
        ([0, 0, 100, 50], [25, 25], [75, 51], 1, 1, 0),
        # Swapped points are paired the better way round.
        ([0, 0, 100, 50], [75, 25], [25, 25], 1, 1, 1),
        # Both points 100 px off, then 99.
        ([0, 0, 200, 50], [125, 25], [175, 25], 0, 0, 0),
        ([0, 0, 200, 50], [124, 25], [174, 25], 0, 0, 1),
    ],
)
def test_base_hits(bbox, first, second, iou, edges, points):
    values = score(say(bbox, first, second), BOX_TRUTH, "base")
    assert (values["iou"], values["bbox_l1"], values["points_l1"]) == (iou, edges, points)
    assert values["score"] == 2 + iou + edges + points


def test_terms_of_another_mode_are_not_scored():
    values = score(say([0, 0, 100, 50], [25, 25], [75, 25]), BOX_TRUTH, "soft")
    assert values["score"] == 4.0
    assert values["bbox_align"] is values["points_angle"] is None


@pytest.mark.parametrize(
    "ground_truth",
    [
        {"bbox_2d": [1, 2, 9, 8], "point_2d": [[3, 4], [5, 6]]},
        {"bbox": [1, 2, 9, 8], "points_1": [3, 4], "points_2": [5, 6]},
        '{"bbox_2d": [1, 2, 9, 8], "point_2d": [[3, 4], [5, 6]]}',
    ],
)
def test_ground_truth_is_read_from_both_sets_of_keys_and_json(ground_truth):
    truth = read_ground_truth(ground_truth)
    assert truth.bbox_xyxy_px == (1, 2, 9, 8)
    assert truth.points_xy_px == ((3, 4), (5, 6))


@pytest.mark.parametrize(
    ("ground_truth", "problem"),
    [
        ([1, 2, 3, 4], "is a list"),
        ("{", "not JSON"),
        ({}, "has the keys"),
        ({"bbox_2d": [1, 2, 9, 8]}, "bbox_2d"),
        ({"bbox_2d": [1, 2, 9], "point_2d": [[3, 4], [5, 6]]}, "4 finite numbers"),
        ({"bbox_2d": [1, 2, 9, math.nan], "point_2d": [[3, 4], [5, 6]]}, "finite"),
        ({"bbox_2d": [1, 2, 9, True], "point_2d": [[3, 4], [5, 6]]}, "True"),
        ({"bbox_2d": [1, 2, 9, 8], "point_2d": [[3, 4]]}, "two key points"),
        ({"bbox_2d": [1, 2, 9, 8], "point_2d": None}, "two key points"),
        ({"bbox_2d": [1, 2, 1, 8], "point_2d": [[3, 4], [5, 6]]}, "x1 < x2"),
        ({"bbox_2d": [9, 2, 1, 8], "point_2d": [[3, 4], [5, 6]]}, "x1 < x2"),
    ],
)
def test_a_malformed_ground_truth_is_raised_not_scored(ground_truth, problem):
    with pytest.raises(GroundTruthError, match=problem):
        score("", ground_truth)


def test_an_unknown_mode_is_named():
    with pytest.raises(RewardConfigError, match="'medium'"):
        score("", None, "medium")
