# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from medreasoner_infer.agreement import agreement, box_iou, grounding_iou
from medreasoner_infer.types import Grounding, ReasonerAnswer


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 4, 4), (6, 6, 8, 8), 0.0),
        ((0, 0, 10, 10), (2, 2, 7, 6), 0.2),
    ],
)
def test_box_iou_of_known_boxes(a, b, expected):
    assert box_iou(a, b) == pytest.approx(expected)


BOX = Grounding("", (0, 0, 10, 10), ((2, 2), (6, 6)))
ABSENT = Grounding("", None, None)
PUZZLED = Grounding("", None, None, outcome="not_understood")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (ABSENT, ABSENT, 1.0),
        (PUZZLED, PUZZLED, 1.0),
        (ABSENT, PUZZLED, 0.0),
        (PUZZLED, BOX, 0.0),
        (ABSENT, BOX, 0.0),
        (BOX, BOX, 1.0),
    ],
)
def test_a_question_not_understood_is_an_answer_of_its_own(first, second, expected):
    assert grounding_iou(first, second) == grounding_iou(second, first) == expected


def test_agreement_counts_the_samples_that_did_not_understand_either():
    answer, *samples = (
        ReasonerAnswer("", each, 0.9, 1) for each in (PUZZLED, PUZZLED, ABSENT, BOX, PUZZLED)
    )
    assert agreement(answer, samples) == 0.5
