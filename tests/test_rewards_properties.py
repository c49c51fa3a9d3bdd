# SPDX-License-Identifier: Apache-2.0
"""What holds for every answer, not only for chosen ones."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from medreasoner_infer.answer import format_answer
from medreasoner_training.rewards import HARD_TERMS, MODE_TERMS, SOFT_TERMS, explain, score
from medreasoner_training.rewards.base import has_strict_format

SIZE = 840
modes = st.sampled_from(list(MODE_TERMS))
coordinate = st.integers(0, SIZE)
any_number = st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=3))


@st.composite
def groundings(draw: st.DrawFn) -> dict:
    """A box and two points in it, by the answer's keys."""
    x1, y1 = draw(st.integers(0, SIZE - 1)), draw(st.integers(0, SIZE - 1))
    x2, y2 = draw(st.integers(x1 + 1, SIZE)), draw(st.integers(y1 + 1, SIZE))
    inside = st.tuples(st.integers(x1, x2), st.integers(y1, y2)).map(list)
    return {"bbox": [x1, y1, x2, y2], "points_1": draw(inside), "points_2": draw(inside)}


def say(answer: object) -> str:
    return f"<think>Left lobe.</think><answer>{json.dumps(answer)}</answer>"


def moved(grounding: dict, dx: int, dy: int) -> dict:
    return {
        key: [value + (dx, dy)[i % 2] for i, value in enumerate(values)]
        for key, values in grounding.items()
    }


@given(groundings(), modes)
def test_a_perfect_answer_earns_the_maximum(truth, mode):
    box, points = truth["bbox"], (truth["points_1"], truth["points_2"])
    values = score(format_answer("Left lobe.", box, points), truth, mode)
    assert values["score"] == len(MODE_TERMS[mode])


@given(groundings(), groundings(), modes, st.booleans())
def test_no_answer_earns_more_than_the_maximum(answer, truth, mode, as_released):
    values = score(say(answer), truth, mode, as_released)
    assert all(0.0 <= values[term] <= 1.0 for term in MODE_TERMS[mode])
    assert values["score"] == pytest.approx(sum(values[term] for term in MODE_TERMS[mode]))


@given(groundings(), groundings())
def test_a_box_that_misses_the_target_earns_no_more_than_the_floor(answer, truth):
    box, true_box = answer["bbox"], truth["bbox"]
    assume(any(max(box[i], true_box[i]) >= min(box[i + 2], true_box[i + 2]) for i in (0, 1)))
    assert score(say(answer), truth)["bbox_iou"] <= 0.1


@given(groundings(), groundings(), modes, st.booleans())
def test_the_order_of_the_points_does_not_matter(answer, truth, mode, as_released):
    swapped = {**answer, "points_1": answer["points_2"], "points_2": answer["points_1"]}
    truth_swapped = {**truth, "points_1": truth["points_2"], "points_2": truth["points_1"]}
    expected = score(say(answer), truth, mode, as_released)
    assert score(say(swapped), truth, mode, as_released) == pytest.approx(expected, abs=1.1e-4)
    assert score(say(answer), truth_swapped, mode) == pytest.approx(
        score(say(answer), truth, mode), abs=1.1e-4
    )


@given(groundings(), groundings(), st.integers(-500, 500), st.integers(-500, 500), modes)
def test_moving_answer_and_truth_together_changes_nothing(answer, truth, dx, dy, mode):
    expected = score(say(answer), truth, mode)
    there = score(say(moved(answer, dx, dy)), moved(truth, dx, dy), mode)
    assert there == pytest.approx(expected, abs=1.1e-4)


@given(groundings(), groundings(), st.sampled_from(["soft", "hard"]))
def test_mirroring_answer_and_truth_together_changes_nothing(answer, truth, mode):
    def mirrored(grounding: dict) -> dict:
        x1, y1, x2, y2 = grounding["bbox"]
        points = {key: [SIZE - grounding[key][0], grounding[key][1]] for key in list(grounding)[1:]}
        return {"bbox": [SIZE - x2, y1, SIZE - x1, y2], **points}

    expected = score(say(answer), truth, mode)
    assert score(say(mirrored(answer)), mirrored(truth), mode) == pytest.approx(
        expected, abs=1.1e-4
    )


@given(groundings(), groundings())
def test_soft_terms_do_not_depend_on_the_mode(answer, truth):
    soft, hard = score(say(answer), truth, "soft"), score(say(answer), truth, "hard")
    assert {term: soft[term] for term in SOFT_TERMS} == {term: hard[term] for term in SOFT_TERMS}


@given(groundings(), st.integers(0, 400), st.integers(0, 400))
def test_a_box_that_strays_further_never_earns_more(truth, near, further):
    near, far = sorted((near, near + further))
    x1, y1, x2, y2 = truth["bbox"]
    rewards = [
        score(say({**truth, "bbox": [x1 + off, y1, x2 + off, y2]}), truth)["bbox_iou"]
        for off in (near, far)
    ]
    assert rewards[0] >= rewards[1]


@given(st.text() | st.text(alphabet="<>/thinkaswer{}[]\"'0123,: ").map(lambda t: f"<answer>{t}"))
@example("<think><answer></think></answer>")
@example("<answer>{'</answer>")
def test_no_text_makes_the_default_raise(text):
    for truth in (None, {"bbox": [1, 1, 5, 5], "points_1": [2, 2], "points_2": [4, 4]}):
        for mode, terms in MODE_TERMS.items():
            values = score(f"{text}</answer>", truth, mode)
            assert all(0.0 <= values[term] <= 1.0 for term in terms)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "bbox": st.lists(any_number, max_size=5) | any_number,
            "points_1": st.lists(any_number, max_size=3) | any_number,
            "points_2": st.lists(any_number, max_size=3) | any_number,
        },
    )
)
def test_no_value_makes_the_default_raise_or_leave_its_bounds(answer):
    truth = {"bbox": [1, 1, 5, 5], "points_1": [2, 2], "points_2": [4, 4]}
    values = score(say(answer), truth, "hard")
    assert all(0.0 <= values[term] <= 1.0 for term in HARD_TERMS)


@given(groundings(), groundings() | st.none(), modes, st.booleans())
def test_an_explanation_carries_the_values_of_the_score(answer, truth, mode, as_released):
    values = score(say(answer), truth, mode, as_released)
    explained = {line.term: line.value for line in explain(say(answer), truth, mode, as_released)}
    assert set(MODE_TERMS[mode]) < set(explained) <= set(values)
    assert explained == {term: values[term] for term in explained}


@given(
    st.lists(st.sampled_from(("<think>", "</think>", "<answer>", "</answer>", " ", "\n", "x"))),
    st.booleans(),
)
def test_the_strict_format_is_that_of_the_published_expression(parts, is_framed):
    text = "".join(("<think>", *parts, "</answer>") if is_framed else parts)
    published = re.fullmatch(r"<think>.*?</think>\s*<answer>.*?</answer>", text, re.DOTALL)
    assert has_strict_format(text) == (published is not None)
