# SPDX-License-Identifier: Apache-2.0
"""Sentences for the reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_LOW_AGREEMENT = 0.5
_LOW_CONFIDENCE = 0.5
TILT_TOLD_DEGREES = 5.0


@dataclass(frozen=True)
class Line:
    """A line about the answer; ``alert`` marks what needs a second look."""

    text: str
    alert: bool = False


def describe_answer(answer: Mapping[str, Any]) -> list[Line]:
    """What an answer says besides its reasoning."""
    lines = [_presence(answer["present"]), Line(answer["slice_choice"]["explanation"])]
    agreement, confidence = answer.get("agreement"), answer.get("confidence")
    if agreement is not None:
        low = agreement < _LOW_AGREEMENT
        more = ": low, look closely" if low else ""
        lines.append(Line(f"Several answers agree to {agreement:.0%}{more}.", low))
    if confidence is not None:
        low = confidence < _LOW_CONFIDENCE
        lines.append(Line(f"Confidence of the answer: {confidence:.0%}.", low))
    return lines + [Line(text, alert=True) for text in answer.get("warnings") or ()]


def describe_record(record: Mapping[str, Any]) -> str:
    """One line for an earlier question."""
    decision = record.get("decision") or {}
    outcome = decision.get("outcome") or ("open" if record["present"] else "not present")
    asked_at = datetime.fromisoformat(record["created_at"]).astimezone()
    return f"{record['result']['query']} ({outcome}, {asked_at:%Y-%m-%d %H:%M})"


def describe_tilt(degrees: float) -> str:
    """What a tilted slice view means; empty where it is not tilted."""
    if degrees < TILT_TOLD_DEGREES:
        return ""
    return (
        f"This view is tilted by {degrees:.0f} degrees against the volume; the volume's own slice "
        "through the middle of the view is read."
    )


def _presence(present: bool) -> Line:
    if present:
        return Line("The target is on this slice.")
    return Line("Not present: the target was not found on this slice.", alert=True)
