# SPDX-License-Identifier: Apache-2.0
"""From the object of an answer to a checked box and two checked key points, in reasoner px."""

from __future__ import annotations

import math
import re

from medreasoner_infer.answer.errors import (
    DegenerateBoxError,
    MalformedBoxError,
    MalformedPointError,
    MissingKeyError,
    NotFiniteError,
    NotJsonError,
    OutsideImageError,
    ReversedCornersError,
    UnexpectedKeyError,
)
from medreasoner_infer.answer.repairs import Repairs, describe
from medreasoner_infer.errors import AnswerError
from medreasoner_infer.types import XY, XYXY

BOX, FIRST, SECOND = KEYS = ("bbox", "points_1", "points_2")
_OTHER_NAMES = {
    "bbox_2d": BOX,
    "box": BOX,
    "box_2d": BOX,
    "bounding_box": BOX,
    "point_1": FIRST,
    "point1": FIRST,
    "point_2": SECOND,
    "point2": SECOND,
}
_POINT_LISTS = ("points", "point_2d", "points_2d", "key_points", "keypoints")
_NUMBER_TEXT = re.compile(r"\s*[+-]?\d{1,18}(?:\.\d*)?\s*(?:px)?\s*")


def read_grounding(
    body: dict[str, object], size: tuple[int, int], repairs: Repairs, min_side_px: float
) -> tuple[XYXY | None, tuple[XY, XY] | None]:
    """Box and both points of an answer's object; ``(None, None)`` where all is null.

    Raises:
        AnswerError: a key is missing, or a value is malformed beyond repair.
    """
    members = _canonical_keys(body, repairs)
    if members and all(value is None for value in members.values()):
        repairs.add(NotJsonError, "The answer's values are all null", "it was read as: not present")
        return None, None
    missing = [key for key in KEYS if key not in members]
    if missing:
        raise MissingKeyError(
            f"The answer has no {', '.join(missing)}; expected {', '.join(KEYS)}."
        )
    box = _numbers(members[BOX], 4, BOX, MalformedBoxError, repairs)
    points = [_numbers(members[k], 2, k, MalformedPointError, repairs) for k in (FIRST, SECOND)]
    bbox = _fit_box(box, size, repairs, min_side_px)
    return bbox, _fit_points(points, bbox, size, repairs)


def _canonical_keys(body: dict[str, object], repairs: Repairs) -> dict[str, object]:
    """The object's members under the agreed names; other members are dropped."""
    members = {key: body[key] for key in KEYS if key in body}
    for key, value in body.items():
        name = _OTHER_NAMES.get(key)
        if key in KEYS:
            continue
        if name is not None and name not in members:
            repairs.add(UnexpectedKeyError, f"The key is {key}", f"it was read as {name}")
            members[name] = value
        elif key in _POINT_LISTS and not {FIRST, SECOND} & members.keys():
            members |= _split_points(key, value, repairs)
        else:
            shown = key if re.fullmatch(r"\w{1,20}", key) else describe(key)
            repairs.add(UnexpectedKeyError, f"The answer has the further key {shown}", "ignored")
    return members


def _split_points(key: str, value: object, repairs: Repairs) -> dict[str, object]:
    """The two points of one list of points, or of one flat list of four numbers."""
    if value is None:
        return {FIRST: None, SECOND: None}
    if isinstance(value, list) and len(value) == 4 and not any(isinstance(v, list) for v in value):
        value = [value[:2], value[2:]]
    if not isinstance(value, list) or len(value) < 2:
        raise MalformedPointError(f"{key} is {describe(value)}; expected two points [x, y].")
    extra = f", {len(value) - 2} more ignored" if len(value) > 2 else ""
    repairs.add(
        UnexpectedKeyError, f"The points are in one list {key}", f"the first two were taken{extra}"
    )
    return {FIRST: value[0], SECOND: value[1]}


def _numbers(
    value: object, count: int, key: str, error: type[AnswerError], repairs: Repairs
) -> list[float]:
    """``count`` finite floats out of a JSON value."""
    problem = f"{key} is {describe(value)}; expected a list of {count} numbers"
    if isinstance(value, list) and value and all(isinstance(item, list) for item in value):
        repairs.add(error, problem, "the nested lists were joined")
        value = [number for item in value for number in item]
    if not isinstance(value, list) or len(value) != count:
        raise error(f"{problem}.")
    if any(isinstance(item, str) for item in value):
        repairs.add(error, problem, "numbers written as text were read")
        value = [_from_text(item) for item in value]
    numbers = [n for n in value if isinstance(n, (int, float)) and not isinstance(n, bool)]
    if len(numbers) != count:
        raise error(f"{problem}.")
    return [_finite(number, key) for number in numbers]


def _from_text(item: object) -> object:
    """The number that a text holds; anything else unchanged."""
    if isinstance(item, str) and _NUMBER_TEXT.fullmatch(item):
        return float(item.replace("px", ""))
    return item


def _finite(number: int | float, key: str) -> float:
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise NotFiniteError(f"{key} holds a coordinate that is not finite; expected pixels.")
    return value


def _fit_box(box: list[float], size: tuple[int, int], repairs: Repairs, min_side_px: float) -> XYXY:
    """The box with ordered corners, clipped to the image."""
    x1, y1, x2, y2 = box
    if x2 < x1 or y2 < y1:
        repairs.add(
            ReversedCornersError,
            f"{BOX} is {describe(box)} with corners in reverse; expected x1 < x2 and y1 < y2",
            "they were swapped",
        )
    spans = [sorted((x1, x2)), sorted((y1, y2))]
    if any(low < 0 or high > side for (low, high), side in zip(spans, size, strict=True)):
        repairs.add(
            OutsideImageError,
            f"{BOX} is {describe(box)}, beyond the image of {size[0]} x {size[1]} px",
            "it was clipped",
        )
    (x1, x2), (y1, y2) = (
        _fit_span(axis, span, side, repairs, min_side_px)
        for axis, span, side in zip("xy", spans, size, strict=True)
    )
    return x1, y1, x2, y2


def _fit_span(
    axis: str, span: list[float], side: int, repairs: Repairs, min_side_px: float
) -> tuple[float, float]:
    """One axis of the box: clipped to 0…side and, where allowed, widened to ``min_side_px``."""
    low, high = max(span[0], 0.0), min(span[1], float(side))
    problem = f"{BOX} spans {axis} {describe(span)}, which is no extent inside 0...{side} px"
    touches = low <= high
    if low < high:
        return low, high
    width = min(min_side_px, float(side))
    if not touches or width <= 0:
        raise DegenerateBoxError(f"{problem}.")
    repairs.add(DegenerateBoxError, problem, f"it was widened to {width:g} px")
    low = min(max((low + high - width) / 2, 0.0), side - width)
    return low, low + width


def _fit_points(
    points: list[list[float]], bbox: XYXY, size: tuple[int, int], repairs: Repairs
) -> tuple[XY, XY]:
    """Both points inside the image.

    A point outside is no evidence of its own, and a click on background spoils the mask. So it is
    clipped only where that leaves it in the box; else the other key point is used twice.
    """
    fitted = [
        _fit_point(p, key, bbox, size, repairs) for p, key in zip(points, KEYS[1:], strict=True)
    ]
    first, second = fitted[0] or fitted[1], fitted[1] or fitted[0]
    if first is None or second is None:
        raise OutsideImageError(
            f"{FIRST} is {describe(points[0])} and {SECOND} is {describe(points[1])}, both outside "
            f"the image of {size[0]} x {size[1]} px."
        )
    return first, second


def _fit_point(
    point: list[float], key: str, bbox: XYXY, size: tuple[int, int], repairs: Repairs
) -> XY | None:
    """The point, clipped where allowed; ``None`` where it says nothing about the target."""
    x, y = point
    if 0 <= x < size[0] and 0 <= y < size[1]:
        return x, y
    problem = f"{key} is {describe(point)}, outside the image of {size[0]} x {size[1]} px"
    x, y = (min(max(v, 0.0), side - 0.5) for v, side in zip(point, size, strict=True))
    if bbox[0] <= x <= bbox[2] and bbox[1] <= y <= bbox[3]:
        repairs.add(OutsideImageError, problem, "it was clipped")
        return x, y
    repairs.add(OutsideImageError, problem, "the other key point was used twice")
    return None
