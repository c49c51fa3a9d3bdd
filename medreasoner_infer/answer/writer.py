# SPDX-License-Identifier: Apache-2.0
"""Writing an answer in the agreed format, e.g. as a training target."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from medreasoner_infer.answer.outcome_words import NOT_UNDERSTOOD
from medreasoner_infer.answer.parser import SPACE
from medreasoner_infer.types import Outcome

_TAG = re.compile(r"</?(?:think|answer)>")


def format_answer(
    reasoning: str,
    bbox_xyxy_px: Sequence[float] | None,
    points_xy_px: Sequence[Sequence[float]] | None,
    *,
    outcome: Outcome | None = None,
) -> str:
    """The completion that :func:`parse_answer` reads back as these values.

    Args:
        reasoning: the trace; empty leaves the ``<think>`` block out, as for a direct prompt.
        bbox_xyxy_px: (x1, y1, x2, y2) in reasoner px, edge based; ``None`` for an absent target.
        points_xy_px: two (x, y) in the same frame; ``None`` exactly when the box is ``None``.
        outcome: by default ``present`` or ``absent``, as there is a box or not.

    Raises:
        ValueError: the trace holds a tag of the format, or box, points and outcome do not fit
            together.
    """
    if _TAG.search(reasoning):
        raise ValueError("The reasoning holds a <think> or <answer> tag; expected plain text.")
    trace = reasoning.strip(SPACE)
    think = f"<think>{trace}</think>" if trace else ""
    body = _format_body(bbox_xyxy_px, points_xy_px, outcome)
    return f"{think}<answer>{body}</answer>"


def _format_body(
    bbox: Sequence[float] | None, points: Sequence[Sequence[float]] | None, outcome: Outcome | None
) -> str:
    is_empty = bbox is None and points is None
    if outcome not in (None, *(("absent", "not_understood") if is_empty else ("present",))):
        have = "neither box nor points" if is_empty else "box or points"
        raise ValueError(f"The outcome is {outcome} and there are {have}; expected them to fit.")
    if is_empty:
        return json.dumps(NOT_UNDERSTOOD) if outcome == "not_understood" else "null"
    if bbox is None or points is None or len(bbox) != 4 or [len(p) for p in points] != [2, 2]:
        raise ValueError("Expected a box of 4 numbers and 2 points of 2 numbers, or None for both.")
    first, second = points
    members = {"bbox": _plain(bbox), "points_1": _plain(first), "points_2": _plain(second)}
    return json.dumps(members, allow_nan=False)


def _plain(numbers: Sequence[float]) -> list[int | float]:
    """Whole numbers as int, since models are trained on and decode integers."""
    return [int(n) if float(n).is_integer() else float(n) for n in numbers]
