# SPDX-License-Identifier: Apache-2.0
"""What was checked of an answer, as it is kept with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StatementKind = Literal["side", "position", "brightness", "size", "shape", "neighbour"]
Verdict = Literal["holds", "does not hold", "cannot be checked"]
#: How a region is taken away: filled in with what surrounds it, made as dark as the darkest of the
#: slice, or as grey as the middle of what it shows.
Removal = Literal["filled", "emptied", "greyed"]


@dataclass(frozen=True)
class StatementCheck:
    """One statement of a reasoning about the image, tested.

    Attributes:
        kind: what it speaks of.
        start: of its first character in the reasoning, counted in Unicode code points.
        end: behind its last character, likewise.
        claim: what it says, in English and always the same words: ``the patient's left``.
        verdict: whether it holds.
        measured: what was measured, with its unit; or why nothing could be.
    """

    kind: StatementKind
    start: int
    end: int
    claim: str
    verdict: Verdict
    measured: str


@dataclass(frozen=True)
class RemovalTest:
    """The same question, asked of the slice without the region that the answer points to.

    Attributes:
        depends: whether the answer went with the region: over the ways in which it was taken away,
            its box moved more than boxes do when something else is taken away.
        outcome: of the answer that differs most from the first one.
        bbox_iou: of its box and the first answer's, 0...1; ``None`` where it has none.
        removed_px: how many slice px were taken away for it.
        explanation: for the reader.
        how: the region was taken away for it.
    """

    depends: bool
    outcome: Literal["present", "absent", "not_understood"]
    bbox_iou: float | None
    removed_px: int
    explanation: str
    how: Removal = "filled"


@dataclass(frozen=True)
class Checks:
    """What was checked of an answer; ``removal`` is ``None`` where it was not asked for."""

    statements: tuple[StatementCheck, ...]
    removal: RemovalTest | None = None
