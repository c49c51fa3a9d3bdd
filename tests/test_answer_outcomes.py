# SPDX-License-Identifier: Apache-2.0
"""The third outcome of an answer: a question that was not understood, written, allowed and read."""

from __future__ import annotations

import dataclasses
import re

import pytest

from medreasoner_infer import answer as fmt
from medreasoner_infer.errors import AnswerError
from medreasoner_infer.scaling import rescale
from medreasoner_infer.types import Grounding, ReasonerAnswer

WRITTEN = '<think>No such organ.</think><answer>"not understood"</answer>'
PUZZLED = Grounding("No such organ.", None, None, outcome="not_understood")
BOX, POINTS = (10.0, 20.0, 30.0, 40.0), ((15.0, 25.0), (20.0, 30.0))


def tolerant(body: str) -> Grounding:
    text = f"<think>No such organ.</think><answer>{body}</answer>"
    return fmt.parse_answer(text, mode="tolerant", image_size=100)


def test_it_is_written_and_read_strictly() -> None:
    assert fmt.format_answer("No such organ.", None, None, outcome="not_understood") == WRITTEN
    assert fmt.parse_answer(WRITTEN, image_size=100) == PUZZLED
    assert PUZZLED.outcome == "not_understood"
    assert not PUZZLED.present
    assert fmt.NOT_UNDERSTOOD == "not understood"


def test_tolerant_reading_of_the_agreed_form_repairs_nothing() -> None:
    assert tolerant('\n"not understood" ') == PUZZLED


@pytest.mark.parametrize("size", [112, (90, 7)])
@pytest.mark.parametrize("limit", [0, 40])
def test_the_pattern_allows_it_beside_what_it_allowed_before(size, limit) -> None:
    pattern = fmt.answer_regex(size, limit)
    think = "<think>No such organ.</think>" if limit else ""
    for body in (
        "null",
        '{"bbox": [0, 1, 2, 3], "points_1": [1, 2], "points_2": [1, 2]}',
        '"not understood"',
    ):
        text = f"{think}<answer>{body}</answer>"
        assert re.fullmatch(pattern, text)
        assert len(text.encode()) <= fmt.max_answer_bytes(size, limit)
    for body in ("not understood", "'not understood'", '"not_understood"', '"absent"'):
        assert not re.fullmatch(pattern, f"{think}<answer>{body}</answer>")


@pytest.mark.parametrize(
    ("grounding", "outcome"),
    [
        (Grounding("", BOX, POINTS), "present"),
        (Grounding("", None, None), "absent"),
        (Grounding("", None, None, outcome="absent"), "absent"),
        (Grounding("", BOX, POINTS, outcome="present"), "present"),
        (rescale(Grounding("", BOX, POINTS), 2.0), "present"),
        (rescale(PUZZLED, 2.0), "not_understood"),
    ],
)
def test_the_outcome_is_that_of_the_box_where_nothing_else_is_said(grounding, outcome) -> None:
    assert grounding.outcome == outcome
    assert grounding.present == (outcome == "present")


@pytest.mark.parametrize(
    ("box", "outcome"), [(BOX, "not_understood"), (BOX, "absent"), (None, "present")]
)
def test_no_answer_has_a_box_and_another_outcome(box, outcome) -> None:
    points = box and POINTS
    with pytest.raises(ValueError, match=f"outcome is {outcome}"):
        Grounding("", box, points, outcome=outcome)
    with pytest.raises(ValueError, match=f"outcome is {outcome}"):
        fmt.format_answer("x", box, points, outcome=outcome)
    with pytest.raises(ValueError, match="outcome is present"):
        dataclasses.replace(Grounding("", BOX, POINTS), bbox_xyxy_px=None)


def test_who_did_not_understand_is_sure_of_nothing() -> None:
    assert ReasonerAnswer("", PUZZLED, 0.97, 9).confidence is None
    assert ReasonerAnswer("", Grounding("", None, None), 0.97, 9).confidence == 0.97


WORDS = [
    "not understood",
    "not_understood",
    "Not-understood.",
    '"not_understood"',
    '"Not understood."',
    "'not understood'",
    '```json\n"not understood"\n```',
    "unknown",
    '"unknown"',
    "Unclear.",
    "ambiguous",
    "I do not understand the question",
    "I don't understand this question.",
    "I cannot understand what is asked.",
    "The question is unclear.",
    "The question is not clear to me",
    "The question cannot be judged.",
    "The question can't be answered.",
    "The question is outside what I know",
    "This is outside the scope of my training.",
    "The question makes no sense; it is nonsense.",
    "The question does not make sense.",
    "The term is unknown to me.",
    "I do not know this word.",
    "The question names several targets at once.",
    "The request mentions multiple targets; the question is ambiguous.",
    "This is not a medical image.",
    "An unknown kind of image.",
    "The image cannot be interpreted.",
    "I do not understand the question, so the target is not present.",
    '{"outcome": "not_understood"}',
    '{"outcome": "not understood"}',
    "{'outcome': 'not_understood'}",
    '[{"outcome": "not_understood"}]',
    '{"answer": "unknown"}',
    '{"result": "The question cannot be judged."}',
    '{"not_understood": true}',
    '{"understood": false}',
    '{"bbox": null, "points_1": null, "points_2": null, "outcome": "not_understood"}',
    '{"bbox": null, "reason": "I do not understand the question"}',
    '{"outcome": "not_understood", "bbox": [10, 20, 30, 40]}',
    '["not understood"]',
]


@pytest.mark.parametrize("body", WORDS)
def test_other_words_for_it_are_read_and_told(body: str) -> None:
    grounding = tolerant(body)
    assert grounding.outcome == "not_understood"
    assert (grounding.bbox_xyxy_px, grounding.points_xy_px) == (None, None)
    assert grounding.warnings[-1].endswith("; it was read as: not understood")
    strict = f"<think>x</think><answer>{body}</answer>"
    with pytest.raises(AnswerError):
        fmt.parse_answer(strict, mode="strict", image_size=100)


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        ("unknown", "The answer is in words, not JSON; it was read as: not understood"),
        ('"unknown"', 'The answer is a text, not "not understood"; it was read as: not understood'),
        (
            '{"outcome": "not_understood"}',
            "The answer is an object that holds words; it was read as: not understood",
        ),
    ],
)
def test_the_repair_is_told_in_these_words(body: str, warning: str) -> None:
    assert tolerant(body).warnings == (warning,)


@pytest.mark.parametrize(
    "body",
    [
        "null",
        "n/a",
        "The target is not visible on this slice.",
        "The kidney is not visible; where it lies is uncertain.",
        "It is not present, so the question cannot be answered.",
        "The structure in question is outside this slice and not visible.",
        "The target of the question is beyond this slice; it is not seen.",
        '{"bbox": null, "points_1": null, "points_2": null, "note": "its margin is unclear"}',
        '{"outcome": "absent"}',
    ],
)
def test_an_absent_target_stays_absent(body: str) -> None:
    assert tolerant(body).outcome == "absent"


def test_a_note_of_doubt_beside_a_box_changes_nothing() -> None:
    body = (
        '{"bbox": [10, 20, 30, 40], "points_1": [15, 25], "points_2": [20, 30], '
        '"status": "uncertain", "note": "the question is unclear"}'
    )
    assert tolerant(body).bbox_xyxy_px == BOX


@pytest.mark.parametrize("body", ["I cannot tell.", "I understand.", "liver", '"liver"', "[]"])
def test_words_that_say_neither_are_refused(body: str) -> None:
    with pytest.raises(AnswerError):
        tolerant(body)
