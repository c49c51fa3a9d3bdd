# SPDX-License-Identifier: Apache-2.0
"""Sentences for the reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_LOW_AGREEMENT = 0.5
_LOW_CONFIDENCE = 0.5
_SIGNS = {"holds": "✓", "does not hold": "✗", "cannot be checked": "?"}
TILT_TOLD_DEGREES = 5.0


@dataclass(frozen=True)
class Line:
    """A line about the answer; ``alert`` marks what needs a second look."""

    text: str
    alert: bool = False


def describe_answer(answer: Mapping[str, Any]) -> list[Line]:
    """What an answer says besides its reasoning."""
    lines = [_presence(answer), Line(answer["slice_choice"]["explanation"])]
    follow_up = answer.get("follow_up") or {}
    if follow_up.get("used"):
        lines.append(Line(f"It follows up on: {follow_up['target']['name']}."))
    agreement = answer.get("agreement")
    if agreement is not None and is_puzzled(answer):
        same = agreement == 1
        lines.append(
            Line(f"Further answers {'' if same else 'do not all '}say the same.", not same)
        )
    elif agreement is not None:
        low = agreement < _LOW_AGREEMENT
        more = ": low, look closely" if low else ""
        lines.append(Line(f"Several answers agree to {agreement:.0%}{more}.", low))
    certainty = _certainty(answer)
    if certainty is not None:
        lines.append(certainty)
    lines += describe_checks(answer)
    return lines + [Line(text, alert=True) for text in answer.get("warnings") or ()]


def describe_checks(answer: Mapping[str, Any]) -> list[Line]:
    """Which statements of the reasoning hold, and whether the answer needs what it points to."""
    checks, reasoning = answer.get("checks") or {}, answer.get("reasoning") or ""
    removal = checks.get("removal")
    lines = [] if removal is None else [Line(removal["explanation"], not removal["depends"])]
    for statement in checks.get("statements", ()):
        verdict, said = statement["verdict"], reasoning[statement["start"] : statement["end"]]
        text = f"{_SIGNS[verdict]} “{said}” {verdict}: {statement['measured']}"
        lines.append(Line(text, verdict == "does not hold"))
    return lines


def _certainty(answer: Mapping[str, Any]) -> Line | None:
    """How sure it is; without a calibration there is no number.

    A model that finds nothing says so with the same certainty about a word that it never learned.
    """
    confidence, present = answer.get("confidence"), answer["present"]
    if is_puzzled(answer) or confidence is None:
        return None
    low = confidence < _LOW_CONFIDENCE
    if not answer.get("calibrated"):
        return (
            Line("The model itself is not sure of this answer.", True) if present and low else None
        )
    what = "its place is right" if present else "it is not there"
    begin = "Uncertain: the" if low else "The"
    return Line(f"{begin} probability that {what} is {confidence:.0%}.", low)


def describe_record(record: Mapping[str, Any]) -> str:
    """One line for an earlier question."""
    decision = record.get("decision") or {}
    outcome = decision.get("outcome") or _found(record)
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


def is_puzzled(answer: Mapping[str, Any]) -> bool:
    """Whether an answer says nothing of a target, since the question was not understood."""
    return answer.get("outcome") == "not_understood"


def _found(record: Mapping[str, Any]) -> str:
    if record["present"]:
        return "open"
    return "not understood" if is_puzzled(record) else "not present"


def _presence(answer: Mapping[str, Any]) -> Line:
    if answer["present"]:
        return Line("The target is on this slice.")
    if is_puzzled(answer):
        text = "The question was not understood: nothing is said of any target."
        return Line(text, alert=True)
    return Line("Not present: the target was not found on this slice.", alert=True)
