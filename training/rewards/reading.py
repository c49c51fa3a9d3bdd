# SPDX-License-Identifier: Apache-2.0
"""What a completion says, read for its reward: partial credit instead of the first error.

:func:`medreasoner_infer.answer.parse_answer` stops at the first fault (strict) or repairs it
(tolerant). A reward must do neither: it grades. Faults keep the types of the inference library.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from medreasoner_infer.answer import (
    NOT_UNDERSTOOD,
    DegenerateBoxError,
    MalformedBoxError,
    MalformedPointError,
    MissingAnswerError,
    MissingKeyError,
    NotFiniteError,
    NotJsonError,
    ReversedCornersError,
)
from medreasoner_infer.answer.lenient_json import LenientReader, LenientSyntaxError
from medreasoner_infer.answer.parser import SPACE
from medreasoner_infer.answer.repairs import describe
from medreasoner_infer.answer.values import KEYS
from medreasoner_infer.errors import AnswerError
from medreasoner_infer.types import XY, XYXY

MAX_COORDINATE_PX = 65535  # Rows and Columns are unsigned 16 bit (DICOM PS3.3 C.7.6.3.1)

NO_ANSWER, NOT_AN_OBJECT, KEY_MISSING, BOTH_MALFORMED, ONE_MALFORMED, WELL_FORMED = (
    0.0, 0.2, 0.4, 0.4, 0.6, 1.0
)  # fmt: skip
EMPTY_TRACE = 0.2
_SINGLE_QUOTES = {"single quotes were read as double quotes"}


@dataclass(frozen=True, slots=True)
class Reading:
    """A completion's parts, each ``None`` where it is missing or malformed.

    ``reasoning`` is the trace without outer space. ``answer_credit`` is the format reward of the
    answer block, 0...1. ``says_absent`` means ``<answer>null</answer>``, ``says_not_understood``
    means ``<answer>"not understood"</answer>``. Coordinates are in reasoner px. ``faults`` says
    what was wrong, as errors that were not raised.
    """

    reasoning: str | None
    answer_credit: float
    says_absent: bool = False
    says_not_understood: bool = False
    bbox_xyxy_px: XYXY | None = None
    points_xy_px: tuple[XY, XY] | None = None
    faults: tuple[AnswerError, ...] = ()

    @property
    def think_credit(self) -> float:
        """Format reward of the reasoning: 0 without a block, 0.2 for an empty one, else 1."""
        if self.reasoning is None:
            return 0.0
        return 1.0 if self.reasoning else EMPTY_TRACE


def read_completion(completion: str) -> Reading:
    """Read a completion. The answer is sought behind the trace, never inside it."""
    reasoning, position = _take_reasoning(completion)
    start = completion.find("<answer>", position)
    end = completion.find("</answer>", start)
    if start < 0 or end < 0:
        fault = MissingAnswerError("No closed <answer> block follows the reasoning.")
        return Reading(reasoning, NO_ANSWER, faults=(fault,))
    body = read_json(completion[start + len("<answer>") : end])
    if body is None:
        return Reading(reasoning, WELL_FORMED, says_absent=True)
    if isinstance(body, str):
        return Reading(reasoning, WELL_FORMED, says_not_understood=True)
    if isinstance(body, AnswerError):
        return Reading(reasoning, NOT_AN_OBJECT, faults=(body,))
    return _grade(reasoning, body)


def _take_reasoning(completion: str) -> tuple[str | None, int]:
    """The trace, and where the text behind it starts."""
    start = completion.find("<think>")
    end = completion.find("</think>", start)
    if start < 0 or end < 0:
        return None, 0
    return completion[start + len("<think>") : end].strip(SPACE), end


def read_json(text: str) -> dict[str, object] | str | NotJsonError | None:
    """The object of an answer block, ``None`` for ``null``, ``"not understood"``, or the fault.

    Single quotes around keys, as in Python's notation, are read; an apostrophe stays one.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _read_single_quoted(text)
    if value is None or isinstance(value, (dict, NotJsonError)):
        return value
    if value == NOT_UNDERSTOOD:
        return NOT_UNDERSTOOD
    return NotJsonError(f"The answer is {describe(value)}; expected one JSON object or null.")


def _read_single_quoted(text: str) -> object:
    fault = NotJsonError("The answer block is not JSON; expected one JSON object or null.")
    if not text.lstrip(SPACE).startswith("{") or "'" not in text:
        return fault
    reader = LenientReader(text)
    try:
        value = reader.read()
    except LenientSyntaxError:
        return fault
    if reader.repairs != _SINGLE_QUOTES or text[reader.position :].strip(SPACE):
        return fault
    return value


def _grade(reasoning: str | None, body: dict[str, object]) -> Reading:
    faults: list[AnswerError] = []
    missing = [key for key in KEYS if key not in body]
    if missing:
        faults.append(MissingKeyError(f"The answer has no {', '.join(missing)}."))
    box = None if "bbox" in missing else _read_box(body["bbox"], faults)
    points = [_read_point(key, body[key], faults) for key in KEYS[1:] if key not in missing]
    first, second = points if len(points) == 2 else (None, None)
    both_points = None if first is None or second is None else (first, second)
    if missing:
        credit = KEY_MISSING
    elif box is None or both_points is None:
        credit = BOTH_MALFORMED if box is None and both_points is None else ONE_MALFORMED
    else:
        credit = WELL_FORMED
    return Reading(
        reasoning, credit, bbox_xyxy_px=box, points_xy_px=both_points, faults=tuple(faults)
    )


def _read_box(value: object, faults: list[AnswerError]) -> XYXY | None:
    box = _read_numbers("bbox", value, 4, MalformedBoxError, faults)
    if box is None:
        return None
    x1, y1, x2, y2 = box
    if x1 < x2 and y1 < y2:
        return x1, y1, x2, y2
    if x2 < x1 or y2 < y1:
        faults.append(ReversedCornersError(f"bbox is {describe(value)}, with reversed corners."))
    else:
        faults.append(DegenerateBoxError(f"bbox is {describe(value)}, without area."))
    return None


def _read_point(key: str, value: object, faults: list[AnswerError]) -> XY | None:
    point = _read_numbers(key, value, 2, MalformedPointError, faults)
    return None if point is None else (point[0], point[1])


def _read_numbers(
    key: str, value: object, count: int, malformed: type[AnswerError], faults: list[AnswerError]
) -> tuple[float, ...] | None:
    """``value`` as ``count`` coordinates, or ``None`` after noting the fault."""
    if type(value) is not list or len(value) != count:
        faults.append(malformed(f"{key} is {describe(value)}; expected a list of {count} numbers."))
        return None
    for number in value:
        if type(number) is not int and type(number) is not float:
            faults.append(malformed(f"{key} holds {describe(number)}; expected numbers only."))
            return None
        if not -MAX_COORDINATE_PX <= number <= MAX_COORDINATE_PX:  # also false for NaN
            problem = f"{key} holds {describe(number)}; expected pixels of an image."
            faults.append(NotFiniteError(problem))
            return None
    return tuple(value)
