# SPDX-License-Identifier: Apache-2.0
"""Reading a completion as the released rewards do, defects included.

The first ``<answer>`` anywhere counts, ``'`` becomes ``"`` even inside valid JSON, booleans and NaN
are numbers, and box and points go on unchecked: what the terms make of them may raise.
"""

from __future__ import annotations

import json
import re

from medreasoner_infer.answer.values import KEYS
from medreasoner_training.rewards.reading import (
    BOTH_MALFORMED,
    KEY_MISSING,
    NO_ANSWER,
    NOT_AN_OBJECT,
    ONE_MALFORMED,
    WELL_FORMED,
    Reading,
)

_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def read_completion_as_released(completion: str) -> Reading:
    """Read a completion; the reading's box and points hold whatever the JSON holds."""
    think, answer = _THINK.search(completion), _ANSWER.search(completion)
    reasoning = None if think is None else think.group(1).strip()
    if answer is None:
        return Reading(reasoning, NO_ANSWER)
    try:
        body = json.loads(answer.group(1).replace("'", '"'))
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return Reading(reasoning, NOT_AN_OBJECT)
    points = None
    if "points_1" in body and "points_2" in body:
        points = (body["points_1"], body["points_2"])
    return Reading(reasoning, _credit(body), bbox_xyxy_px=body.get("bbox"), points_xy_px=points)


def _credit(body: dict[str, object]) -> float:
    if any(key not in body for key in KEYS):
        return KEY_MISSING
    box_fits = _is_numbers(body["bbox"], 4)
    points_fit = _is_numbers(body["points_1"], 2) and _is_numbers(body["points_2"], 2)
    if box_fits and points_fit:
        return WELL_FORMED
    return ONE_MALFORMED if box_fits or points_fit else BOTH_MALFORMED


def _is_numbers(value: object, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(number, (int, float)) for number in value)
    )
