# SPDX-License-Identifier: Apache-2.0
"""What a completion is scored against: a box and two key points, or an outcome without them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from medreasoner_infer.answer import NOT_UNDERSTOOD
from medreasoner_infer.types import XY, XYXY, Outcome
from medreasoner_training.rewards.errors import GroundTruthError

_EXPECTED = (
    'expected {"bbox_2d": [x1, y1, x2, y2], "point_2d": [[x, y], [x, y]]}, the same under "bbox", '
    '"points_1" and "points_2", null for a target that is not on the image, or "not understood"'
)


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Box and key points of a target, in the pixels that completions use (reasoner px)."""

    bbox_xyxy_px: XYXY
    points_xy_px: tuple[XY, XY]


@dataclass(frozen=True, slots=True)
class Truth:
    """The right outcome, and the target where it is ``present``."""

    outcome: Outcome
    target: GroundTruth | None = None


def read_truth(value: Mapping[str, object] | str | None) -> Truth:
    """Read a row's ground truth as :func:`read_ground_truth`, or ``"not understood"`` in JSON.

    Raises:
        GroundTruthError: anything else.
    """
    found = _from_json(value) if isinstance(value, str) else value
    if found == NOT_UNDERSTOOD:
        return Truth("not_understood")
    target = _read_target(found)
    return Truth("absent" if target is None else "present", target)


def read_ground_truth(value: Mapping[str, object] | str | None) -> GroundTruth | None:
    """Read a row's ground truth; ``None`` where the target is absent.

    Args:
        value: a mapping with the keys of U-MRG (``bbox_2d``, ``point_2d``) or of the answer format
            (``bbox``, ``points_1``, ``points_2``), its JSON text, or ``None``. A mapping whose
            values are all ``None`` is an absent target too: so Arrow writes a missing record.

    Raises:
        GroundTruthError: anything else, NaN included.
    """
    return _read_target(_from_json(value) if isinstance(value, str) else value)


def _read_target(found: object) -> GroundTruth | None:
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise GroundTruthError(f"The ground truth is a {type(found).__name__}; {_EXPECTED}.")
    if found and all(member is None for member in found.values()):
        return None
    box, points = _members(found)
    points = _plain(points)
    if not isinstance(points, Sequence) or len(points) != 2:
        raise GroundTruthError(f"The ground truth has not two key points; {_EXPECTED}.")
    first, second = points
    x1, y1, x2, y2 = _numbers(box, 4)
    return GroundTruth((x1, y1, x2, y2), (_point(first), _point(second)))


def require_area(truth: GroundTruth) -> None:
    """Refuse a box that no answer could match.

    Raises:
        GroundTruthError: x2 <= x1 or y2 <= y1.
    """
    x1, y1, x2, y2 = truth.bbox_xyxy_px
    if x2 <= x1 or y2 <= y1:
        raise GroundTruthError(
            f"The ground truth's box is {truth.bbox_xyxy_px}; expected x1 < x2 and y1 < y2. "
            "Drop the row, or widen a box whose last pixel is inclusive by one."
        )


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise GroundTruthError(f"The ground truth is a text but not JSON; {_EXPECTED}.") from error


def _members(value: Mapping[str, object]) -> tuple[object, object]:
    if "bbox_2d" in value and "point_2d" in value:
        return value["bbox_2d"], value["point_2d"]
    try:
        return value["bbox"], (value["points_1"], value["points_2"])
    except KeyError as error:
        raise GroundTruthError(
            f"The ground truth has the keys {sorted(map(str, value))}; {_EXPECTED}."
        ) from error


def _point(value: object) -> XY:
    x, y = _numbers(value, 2)
    return x, y


def _numbers(value: object, count: int) -> tuple[float, ...]:
    """``value`` as a tuple of ``count`` finite numbers; whole ones stay whole."""
    value = _plain(value)
    numbers = tuple(value) if isinstance(value, Sequence) else ()
    if len(numbers) != count or not all(map(_is_finite_number, numbers)):
        raise GroundTruthError(
            f"The ground truth holds {value!r} for {count} finite numbers; {_EXPECTED}."
        )
    return numbers


def _plain(value: object) -> object:
    """A numpy or torch column's item as lists."""
    if type(value) is list:
        return value
    return value.tolist() if hasattr(value, "tolist") else value


def _is_finite_number(value: object) -> bool:
    if type(value) is int:
        return abs(value) <= 2**53
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
