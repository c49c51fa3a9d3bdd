# SPDX-License-Identifier: Apache-2.0
"""Which answer is the best one under uncertainty, found by scoring every answer to every truth."""

from __future__ import annotations

import functools
import itertools
import json
import math

import numpy as np
import pytest

from medreasoner_infer.agreement import box_iou
from medreasoner_training.rewards import (
    BASE_TERMS,
    HARD_TERMS,
    MODE_TERMS,
    SOFT_TERMS,
    RewardConfig,
    make_reward_functions,
    mask_dice_reward,
    reward,
    score,
)

OPERATING_IOU = 0.33
SIZE = 840
NULL = "<think>Not seen.</think><answer>null</answer>"
PUZZLED = '<think>What is meant?</think><answer>"not understood"</answer>'
WITHOUT_BOX = {"not present": NULL, "not understood": PUZZLED}
#: Other things that a policy may write: nothing, a trace only, a broken answer, half an answer.
ODDITIES = (
    "",
    "<think>Left lobe.</think>",
    "<think>Left lobe.</think><answer>liver</answer>",
    '<think>Left lobe.</think><answer>{"bbox": [1, 1, 9, 9]}</answer>',
)
SHAPED_CHOICES = [
    *itertools.combinations(HARD_TERMS[2:], 1),
    *itertools.combinations(HARD_TERMS[2:], 2),
    SOFT_TERMS,
    HARD_TERMS,
]
BOXES = [
    (300, 300, 400, 400),
    (40, 600, 240, 660),
    (100, 500, 220, 560),
    (400, 200, 460, 320),
    (250, 250, 550, 550),
]


def lengthwise(box: tuple[float, ...], at: float) -> list[float]:
    """The point at a share of the box's longer side, in the middle of the other."""
    x1, y1, x2, y2 = box
    across, down = (at, 0.5) if x2 - x1 > y2 - y1 - 0.01 else (0.5, at)
    return [x1 + across * (x2 - x1), y1 + down * (y2 - y1)]


def grounding(box: tuple[float, ...]) -> dict:
    return {
        "bbox": list(box),
        "points_1": lengthwise(box, 0.25),
        "points_2": lengthwise(box, 0.75),
    }


def say(answer: dict) -> str:
    return f"<think>Left lobe.</think><answer>{json.dumps(answer)}</answer>"


def answers_of_iou(box: tuple[int, ...], iou: float) -> dict[str, str]:
    """Boxes moved along the longer side, grown and shrunk, their key points in their places."""
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    # Two equal boxes that share a part s of each have IoU s / (2 - s).
    away = 1 - 2 * iou / (1 + iou)
    dx, dy = (away * width, 0) if width >= height else (0, away * height)
    found = {"moved": (x1 + dx, y1 + dy, x2 + dx, y2 + dy)}
    for name, factor in (("large", 1 / math.sqrt(iou)), ("small", math.sqrt(iou))):
        mx, my = (factor - 1) * width / 2, (factor - 1) * height / 2
        found[name] = (x1 - mx, y1 - my, x2 + mx, y2 + my)
    for moved in found.values():
        assert box_iou(moved, box) == pytest.approx(iou)
    return {name: say(grounding(moved)) for name, moved in found.items()}


def best_answer(earn, boxes: list[str], beliefs: dict[str, float]) -> str:
    """The kind of answer with the highest expected reward; ``earn(text, outcome)`` scores one.

    ``boxes`` are what a box turns out to be, each as likely as the others.
    """
    answers = {"box": boxes, **{name: [text] for name, text in WITHOUT_BOX.items()}}
    answers |= {f"oddity {place}": [text] for place, text in enumerate(ODDITIES)}
    expected = {
        name: sum(
            belief * np.mean([earn(text, outcome) for text in texts])
            for outcome, belief in beliefs.items()
        )
        for name, texts in answers.items()
    }
    return max(expected, key=expected.__getitem__)


def truths(box: tuple[int, ...]) -> dict[str, str]:
    return {"present": json.dumps(grounding(box)), "absent": "null", "puzzling": '"not understood"'}


def earnings(config: RewardConfig, truth: dict[str, str]):
    """What a text earns where an outcome is the right one."""

    @functools.cache
    def earn(text: str, outcome: str) -> float:
        return reward(text, truth[outcome], config)

    return earn


def presumed(present: float, absent_share: float = 1.0) -> dict[str, float]:
    return {
        "present": present,
        "absent": (1 - present) * absent_share,
        "puzzling": (1 - present) * (1 - absent_share),
    }


@pytest.mark.parametrize("terms", SHAPED_CHOICES, ids="+".join)
def test_a_box_of_the_operating_iou_is_best_where_the_target_is_rather_there(terms):
    earn_for = functools.partial(earnings, RewardConfig("hard", tuple(terms)))
    for box in BOXES:
        earn = earn_for(truths(box))
        for name, answer in answers_of_iou(box, OPERATING_IOU).items():
            for present, absent_share in itertools.product((0.51, 0.9), (1.0, 0.5, 0.0)):
                best = best_answer(earn, [answer], presumed(present, absent_share))
                assert best == "box", (box, name, present, absent_share)


@pytest.mark.parametrize(
    ("beliefs", "best"),
    [
        ({"present": 0.49, "absent": 0.51}, "not present"),
        ({"present": 0.49, "puzzling": 0.51}, "not understood"),
        ({"present": 0.51, "absent": 0.49}, "box"),
        ({"present": 0.3, "absent": 0.36, "puzzling": 0.34}, "not present"),
        ({"present": 0.3, "absent": 0.34, "puzzling": 0.36}, "not understood"),
        ({"present": 0.35, "absent": 0.33, "puzzling": 0.32}, "box"),
    ],
)
def test_at_the_operating_point_the_most_probable_outcome_is_the_best_answer(beliefs, best):
    earn = earnings(RewardConfig(), truths(BOXES[0]))
    moved = answers_of_iou(BOXES[0], OPERATING_IOU)["moved"]
    assert best_answer(earn, [moved], beliefs) == best


def border(config: RewardConfig, box: tuple[int, ...], answer: str) -> float:
    """The lowest P(present), in hundredths, from which on a box is the best answer."""
    earn = earnings(config, truths(box))
    kinds = [best_answer(earn, [answer], presumed(hundredth / 100)) for hundredth in range(1, 100)]
    first = kinds.index("box")
    assert set(kinds[first:]) == {"box"}
    return (first + 1) / 100


@pytest.mark.parametrize("iou", [0.2, OPERATING_IOU, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_the_operating_point_can_be_set(mode, iou):
    config = RewardConfig(mode, operating_iou=iou)
    for box in BOXES[:2]:
        borders = [border(config, box, each) for each in answers_of_iou(box, iou).values()]
        assert 0.4 <= max(borders) <= 0.51
        better = answers_of_iou(box, min(1.0, iou + 0.1))["moved"]
        assert border(config, box, better) <= border(config, box, answers_of_iou(box, iou)["moved"])


def test_a_reward_that_favours_refusals_is_found_out():
    """What the enumeration says of full credit for *not present*, which the border of 1 gives."""
    harsh = RewardConfig(operating_iou=1.0)
    moved = answers_of_iou(BOXES[0], OPERATING_IOU)["moved"]
    assert border(harsh, BOXES[0], moved) > 0.75


@pytest.mark.parametrize(
    "terms", [*itertools.combinations(BASE_TERMS[2:], 1), BASE_TERMS], ids="+".join
)
def test_hits_at_the_operating_rate_are_best_where_the_target_is_rather_there(terms):
    box = BOXES[0]
    earn = earnings(RewardConfig("base", terms), truths(box))
    boxes = [say(grounding(box))] * 33 + [say(grounding((700, 700, 740, 740)))] * 67
    for present, best in ((0.51, "box"), (0.49, "not present")):
        assert best_answer(earn, boxes, presumed(present)) == best


def filled_box(image: np.ndarray, prompt) -> np.ndarray:
    x1, y1, x2, y2 = (max(0, round(value)) for value in prompt.bbox_xyxy_px)
    mask = np.zeros(image.shape[:2], bool)
    mask[y1:y2, x1:x2] = True
    return mask


@pytest.mark.parametrize("weight", [0.5, 3.0])
@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_the_mask_s_term_leaves_the_balance(mode, weight):
    box = BOXES[0]
    truth = truths(box)
    functions = make_reward_functions(RewardConfig(mode, ground_truth_column="truth"))
    functions.append(mask_dice_reward(filled_box, ground_truth_column="truth", weight=weight))
    image, empty = np.zeros((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE), bool)
    full = empty.copy()
    full[box[1] : box[3], box[0] : box[2]] = True

    @functools.cache
    def earn(text: str, outcome: str) -> float:
        columns = {
            "images": [image],
            "masks": [full if outcome == "present" else empty],
            "truth": [truth[outcome]],
        }
        return sum(function([text], **columns)[0] for function in functions)

    for answer in answers_of_iou(box, OPERATING_IOU).values():
        assert best_answer(earn, [answer], presumed(0.51, 0.5)) == "box"
    assert best_answer(earn, [say(grounding((700, 700, 740, 740)))], presumed(0.4)) == "not present"


@pytest.mark.parametrize("mode", list(MODE_TERMS))
def test_every_outcome_keeps_the_credit_of_its_format(mode):
    formats = [term for term in MODE_TERMS[mode] if term.startswith("format")] or BASE_TERMS[:2]
    texts = [NULL, PUZZLED, say(grounding(BOXES[0])), *ODDITIES]
    for text in texts:
        earned = [
            {term: score(text, truth, mode)[term] for term in formats}
            for truth in truths(BOXES[0]).values()
        ]
        assert earned[0] == earned[1] == earned[2]
