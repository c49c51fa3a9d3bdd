# SPDX-License-Identifier: Apache-2.0
"""Completions that are not as agreed, each with the credit that is left and the reason."""

from __future__ import annotations

import pytest

from medreasoner_infer.answer import (
    DegenerateBoxError,
    MalformedBoxError,
    MalformedPointError,
    MissingAnswerError,
    MissingKeyError,
    NotFiniteError,
    NotJsonError,
    ReversedCornersError,
)
from medreasoner_training.rewards import MODE_TERMS, read_completion, score

TRUTH = {"bbox_2d": [10, 10, 50, 40], "point_2d": [[20, 20], [40, 30]]}
BOX = '"bbox": [10, 10, 50, 40]'
POINTS = '"points_1": [20, 20], "points_2": [40, 30]'
PERFECT = f"<think>Left lobe.</think><answer>{{{BOX}, {POINTS}}}</answer>"
NOT_UNDERSTOOD = '<think>Not seen.</think><answer>"not understood"</answer>'
FORMAT_ONLY_NULL = "<think>Not seen.</think><answer>null</answer>"


@pytest.mark.parametrize(
    ("completion", "think"),
    [
        ("<think>Left lobe.</think>", 1.0),
        ("<think></think>", 0.2),
        ("<think> \n\t</think>", 0.2),
        ("<think>never closed", 0.0),
        ("</think>before it opens<think>", 0.0),
        ("", 0.0),
    ],
)
def test_reasoning_is_graded(completion, think):
    assert score(completion, TRUTH)["format_think"] == think
    assert score(completion, TRUTH, as_released=True)["format_think"] == think


@pytest.mark.parametrize(
    ("answer", "credit", "box", "points", "fault"),
    [
        (f"{{{BOX}, {POINTS}}}", 1.0, 1.0, 1.0, None),
        (f" \n{{{POINTS}, {BOX}}}\n", 1.0, 1.0, 1.0, None),
        (f'{{{BOX}, {POINTS}, "sure": true}}', 1.0, 1.0, 1.0, None),
        (f"{{{BOX}, {POINTS}}}".replace('"', "'"), 1.0, 1.0, 1.0, None),
        (f"{{{BOX}, {POINTS}, 'note': 'Chopart's joint'}}".replace('"', "'"), 1.0, 1.0, 1.0, None),
        ("", 0.2, 0, 0, NotJsonError),
        ("the liver", 0.2, 0, 0, NotJsonError),
        ("not present", 0.2, 0, 0, NotJsonError),
        ("None", 0.2, 0, 0, NotJsonError),
        ("[]", 0.2, 0, 0, NotJsonError),
        ("42", 0.2, 0, 0, NotJsonError),
        ('"null"', 0.2, 0, 0, NotJsonError),
        (f"[{{{BOX}, {POINTS}}}]", 0.2, 0, 0, NotJsonError),
        (f"{{{BOX}, {POINTS}", 0.2, 0, 0, NotJsonError),
        (f"{{{BOX}, {POINTS},}}", 0.2, 0, 0, NotJsonError),
        (f"{{{BOX}, {POINTS}}} more", 0.2, 0, 0, NotJsonError),
        (f"```json\n{{{BOX}, {POINTS}}}\n```", 0.2, 0, 0, NotJsonError),
        ("[" * 100_000, 0.2, 0, 0, NotJsonError),
        ('{"a": ' * 100_000, 0.2, 0, 0, NotJsonError),
        (f'{{"bbox": [10, 10, 50, {"9" * 5000}], {POINTS}}}', 0.2, 0, 0, NotJsonError),
        ("{}", 0.4, 0, 0, MissingKeyError),
        (f"{{{BOX}}}", 0.4, 1.0, 0, MissingKeyError),
        (f"{{{POINTS}}}", 0.4, 0, 1.0, MissingKeyError),
        (f'{{{BOX}, "points_1": [20, 20]}}', 0.4, 1.0, 0, MissingKeyError),
        ('{"bbox": 3, "points_1": 1, "points_2": 2}', 0.4, 0, 0, MalformedBoxError),
        (f'{{"bbox": [10, 10, 50], {POINTS}}}', 0.6, 0, 1.0, MalformedBoxError),
        (f'{{"bbox": [10, 10, 50, 40, 1], {POINTS}}}', 0.6, 0, 1.0, MalformedBoxError),
        (f'{{"bbox": ["10", "10", "50", "40"], {POINTS}}}', 0.6, 0, 1.0, MalformedBoxError),
        (f'{{"bbox": [10, 10, 50, null], {POINTS}}}', 0.6, 0, 1.0, MalformedBoxError),
        (f'{{"bbox": null, {POINTS}}}', 0.6, 0, 1.0, MalformedBoxError),
        (f'{{"bbox": [true, true, 50, 40], {POINTS}}}', 0.6, 0, 1.0, MalformedBoxError),
        (f'{{"bbox": [[10, 10], [50, 40]], {POINTS}}}', 0.6, 0, 1.0, MalformedBoxError),
        (f'{{"bbox": [NaN, NaN, NaN, NaN], {POINTS}}}', 0.6, 0, 1.0, NotFiniteError),
        (f'{{"bbox": [10, 10, Infinity, 40], {POINTS}}}', 0.6, 0, 1.0, NotFiniteError),
        (f'{{"bbox": [10, 10, 1e999, 40], {POINTS}}}', 0.6, 0, 1.0, NotFiniteError),
        (f'{{"bbox": [0, 0, 1000000000, 1000000000], {POINTS}}}', 0.6, 0, 1.0, NotFiniteError),
        (f'{{"bbox": [10, 10, 50, {"9" * 400}], {POINTS}}}', 0.6, 0, 1.0, NotFiniteError),
        (f'{{"bbox": [50, 40, 10, 10], {POINTS}}}', 0.6, 0, 1.0, ReversedCornersError),
        (f'{{"bbox": [50, 10, 10, 40], {POINTS}}}', 0.6, 0, 1.0, ReversedCornersError),
        (f'{{"bbox": [10, 10, 10, 40], {POINTS}}}', 0.6, 0, 1.0, DegenerateBoxError),
        (f'{{"bbox": [10, 40, 50, 40], {POINTS}}}', 0.6, 0, 1.0, DegenerateBoxError),
        (f'{{{BOX}, "points_1": [20], "points_2": [40, 30]}}', 0.6, 1.0, 0, MalformedPointError),
        (f'{{{BOX}, "points_1": [20, 20], "points_2": "x"}}', 0.6, 1.0, 0, MalformedPointError),
        (f'{{{BOX}, "points_1": [20, NaN], "points_2": [40, 30]}}', 0.6, 1.0, 0, NotFiniteError),
        ('{"bbox": [NaN, 0, 1, 1], "points_1": [], "points_2": []}', 0.4, 0, 0, NotFiniteError),
    ],
)
def test_answer_is_graded(answer, credit, box, points, fault):
    completion = f"<think>Left lobe.</think><answer>{answer}</answer>"
    values = score(completion, TRUTH, "hard")
    assert values["format_seg"] == credit
    assert [values[t] for t in ("bbox_iou", "bbox_align", "bbox_scale")] == [box] * 3
    assert [values[t] for t in ("points_dice", "points_align", "points_angle")] == [points] * 3
    faults = [type(error) for error in read_completion(completion).faults]
    assert faults[:1] == ([] if fault is None else [fault])


@pytest.mark.parametrize(
    "completion",
    [
        "<think>Left lobe.</think>",
        "<think>Left lobe.</think><answer>",
        f"<think>Left lobe.</think><answer>{{{BOX}, {POINTS}}}",
        f"<think>Left lobe.</think>{{{BOX}, {POINTS}}}",
        f"<think>Left <answer>{{{BOX}, {POINTS}}}</answer></think>",
        f"<answer>{{{BOX}, {POINTS}}}</answer><think>Left lobe.</think>",
    ],
)
def test_no_answer_behind_the_reasoning_earns_the_reasoning_only(completion):
    assert score(completion, TRUTH)["score"] == 1.0
    assert [type(error) for error in read_completion(completion).faults] == [MissingAnswerError]


def test_an_answer_alone_loses_only_the_reasoning():
    assert score(PERFECT.partition("</think>")[2], TRUTH, "hard")["score"] == 7.0


@pytest.mark.parametrize(
    ("completion", "thinking"),
    [
        (PERFECT, 1),
        (PERFECT.replace("</think>", "</think>\n"), 1),
        (PERFECT + " ", 0),
        ("Sure! " + PERFECT, 0),
        (PERFECT.partition("</think>")[2], 0),
    ],
)
def test_base_takes_the_format_only_as_the_whole_completion(completion, thinking):
    values = score(completion, TRUTH, "base")
    assert values["thinking"] == thinking
    assert values["segment"] == values["iou"] == values["bbox_l1"] == values["points_l1"] == 1


@pytest.mark.parametrize(
    ("mode", "earned"),
    [
        ("soft", {"format_think": 1.0, "format_seg": 1.0}),
        ("hard", {"format_think": 1.0, "format_seg": 1.0}),
        ("base", {"thinking": 1.0, "segment": 1.0}),
    ],
)
def test_null_for_a_present_target_earns_format_credit_only(mode, earned):
    values = score(FORMAT_ONLY_NULL, TRUTH, mode)
    assert values.pop("score") == 2.0
    assert {term: value for term, value in values.items() if value} == earned


@pytest.mark.parametrize("truth", [TRUTH, None], ids=["present", "absent"])
@pytest.mark.parametrize(
    ("mode", "earned"),
    [
        ("soft", {"format_think": 1.0, "format_seg": 1.0}),
        ("hard", {"format_think": 1.0, "format_seg": 1.0}),
        ("base", {"thinking": 1.0, "segment": 1.0}),
    ],
)
def test_not_understood_earns_its_format_only_for_a_sound_question(truth, mode, earned):
    values = score(NOT_UNDERSTOOD, truth, mode)
    assert values.pop("score") == 2.0
    assert {term: value for term, value in values.items() if value} == earned
    untraced = score(NOT_UNDERSTOOD.split("</think>")[1], truth, mode)
    assert untraced["score"] == 1.0


@pytest.mark.parametrize("body", ["not understood", '"not_understood"', "'not understood'"])
def test_other_words_for_not_understood_are_not_well_formed(body):
    text = f"<think>Not seen.</think><answer>{body}</answer>"
    assert score(text, TRUTH)["format_seg"] == 0.2
    assert score(text, None)["score"] == 1.2


FORMATS = {"format_think", "format_seg", "thinking", "segment"}


@pytest.mark.parametrize("absent", [None, "null", {"bbox_2d": None, "point_2d": None}])
@pytest.mark.parametrize("mode", ["soft", "hard", "base"])
@pytest.mark.parametrize(
    ("completion", "lost"),
    [
        (FORMAT_ONLY_NULL, 0.0),
        ("<think>Not seen.</think>\n<answer> null\n</answer>", 0.0),
        ("<answer>null</answer>", 1.0),
    ],
)
def test_null_for_an_absent_target_earns_each_term_and_a_missing_trace_costs_its_own(
    absent, mode, completion, lost
):
    values = score(completion, absent, mode)
    assert all(values[term] for term in MODE_TERMS[mode] if term not in FORMATS)
    most = score(FORMAT_ONLY_NULL, None, mode)["score"]
    assert values["score"] == pytest.approx(most - lost)


@pytest.mark.parametrize("mode", ["soft", "hard", "base"])
@pytest.mark.parametrize(
    "completion",
    [
        PERFECT,
        "",
        "<think>Not seen.</think>",
        "<think>Not seen.</think><answer></answer>",
        "<think>Not seen.</think><answer>not present</answer>",
        "<think>Not seen.</think><answer>None</answer>",
        '<think>Not seen.</think><answer>"null"</answer>',
        "<think>Not seen.</think><answer>[]</answer>",
        "<think>Not seen.</think><answer>{}</answer>",
        '<answer>{"bbox": null, "points_1": null, "points_2": null}</answer>',
        "<think>Not seen.</think><answer>null",
        "<think>Is it <answer>null</answer>?</think>",
        f"<think>Not seen.</think><answer>null</answer>{PERFECT}".replace("null", "0", 1),
    ],
)
def test_nothing_else_earns_more_than_its_format_for_an_absent_target(mode, completion):
    values, format_of_it = score(completion, None, mode), score(completion, TRUTH, mode)
    for term in MODE_TERMS[mode]:
        assert values[term] == (format_of_it[term] if term in FORMATS else 0.0)
