# SPDX-License-Identifier: Apache-2.0
"""Against what the released code returned, term by term (``data/README.md`` tells whence)."""

from __future__ import annotations

import pytest

from medreasoner_training.rewards import (
    GroundTruthError,
    metrics_as_released,
    read_completion,
    score,
)

TOLERANCE = 1e-4


@pytest.mark.parametrize("mode", ["soft", "hard", "base"])
def test_every_term_of_every_case_is_as_released(reward_cases, mode):
    for case in reward_cases:
        ours = score(case["completion"], case["ground_truth"], mode, as_released=True)
        assert ours == pytest.approx(case[mode], abs=TOLERANCE, rel=0), case["completion"]


def test_metrics_are_as_released_and_none_where_it_raised(reward_cases):
    assert {case["eval"] is None for case in reward_cases} == {True, False}
    for case in reward_cases:
        ours = metrics_as_released(case["completion"], case["ground_truth"])
        assert (ours is None) == (case["eval"] is None), case["completion"]
        if ours is not None:
            assert ours == pytest.approx(case["eval"], abs=TOLERANCE, rel=0), case["completion"]


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_default_differs_from_the_release_only_where_it_says(reward_cases, mode):
    """Boxes that are not garbage keep the format and box terms."""
    kept = ["format_think", "format_seg", "bbox_iou", "bbox_position_valid", "bbox_area_valid"]
    if mode == "hard":
        kept += ["bbox_align", "bbox_scale"]
    sound = [case for case in reward_cases if read_completion(case["completion"]).bbox_xyxy_px]
    assert len(sound) > len(reward_cases) / 3
    for case in sound:
        ours = score(case["completion"], case["ground_truth"], mode)
        expected = {term: case[mode][term] for term in kept}
        assert {term: ours[term] for term in kept} == pytest.approx(expected, abs=TOLERANCE)


def test_default_gives_every_perfect_case_all_it_can(reward_cases):
    for case in (case for case in reward_cases if case["kind"] == "perfect"):
        for mode, most in (("soft", 4), ("hard", 8), ("base", 5)):
            assert score(case["completion"], case["ground_truth"], mode)["score"] == most


TRUTH = {"bbox_2d": [10, 10, 50, 40], "point_2d": [[20, 20], [40, 30]]}
KEPT = '"points_1": [20, 20], "points_2": [40, 30]}</answer>'


def test_released_hard_mode_loses_the_iou_of_a_box_without_height_and_soft_keeps_it():
    flat = '<answer>{"bbox": [10, 25, 50, 25], ' + KEPT
    soft = score(flat, TRUTH, "soft", as_released=True)
    hard = score(flat, TRUTH, "hard", as_released=True)
    # No overlap and both validities low: 0.1 x (0.7 + 0.3 x (0.25 + 0.5) / 2).
    assert soft["bbox_iou"] == 0.0812
    assert hard["bbox_iou"] == hard["bbox_align"] == hard["bbox_position_valid"] == 0.0
    assert hard["points_dice"] == 1.0


@pytest.mark.parametrize("mode", ["soft", "hard", "base"])
def test_a_raise_of_the_released_code_is_none_everywhere(mode):
    values = score("<answer>null</answer>", None, mode, as_released=True)
    assert set(values) == set(score("", TRUTH, mode, as_released=True))
    assert set(values.values()) == {None}


def test_released_code_knows_no_answer_that_the_question_was_not_understood():
    text = '<think>Left lobe.</think><answer>"not understood"</answer>'
    values = score(text, TRUTH, as_released=True)
    assert (values["format_think"], values["format_seg"], values["score"]) == (1.0, 0.2, 1.2)
    assert set(score(text, None, as_released=True).values()) == {None}


def test_released_metrics_refuse_an_absent_target():
    with pytest.raises(GroundTruthError, match="absent"):
        metrics_as_released("<answer>null</answer>", None)


def test_released_apostrophe_breaks_valid_json_and_the_default_keeps_it():
    text = '<answer>{"note": "Morison\'s pouch", "bbox": [10, 10, 50, 40], ' + KEPT
    assert score(text, TRUTH, as_released=True)["format_seg"] == 0.2
    assert score(text, TRUTH)["format_seg"] == 1.0
    assert score(text, TRUTH)["bbox_iou"] == 1.0


def test_released_answer_inside_the_trace_counts_and_the_default_ignores_it():
    text = '<think>As in <answer>{"bbox": [10, 10, 50, 40], ' + KEPT + "</think>"
    assert score(text, TRUTH, as_released=True)["bbox_iou"] == 1.0
    assert score(text, TRUTH)["score"] == 1.0
