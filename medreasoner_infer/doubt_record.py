# SPDX-License-Identifier: Apache-2.0
"""What is recorded of a model's doubt: an answer set against further readings of its slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from medreasoner_infer.types import OUTCOME_WORDS, Outcome

GOOD_DICE: Final = 0.7
"""A mask is good from this Dice with the truth on."""

Reason = Literal["segmenter", "readings", "end"]

#: What readers read of a doubtful slice.
REASON_WORDS: Final[dict[Reason, str]] = {
    "segmenter": "the segmenter is not sure of its mask",
    "readings": "the readings mark different areas",
    "end": "the mask ends at or near this slice, and the target may go on",
}


@dataclass(frozen=True)
class NamedReading:
    """How many readings say the same.

    Attributes:
        outcome: what they say of the target.
        name: of the target in English, as they name it; ``None`` where they name none.
        count: how many they are, at least 1.
        elsewhere: they mark another place than the answer does (Dice below 0.5).
    """

    outcome: Outcome
    name: str | None
    count: int
    elsewhere: bool = False

    @property
    def words(self) -> str:
        """``spleen``, ``spleen, at another place``, ``not present``."""
        if self.outcome != "present":
            return OUTCOME_WORDS[self.outcome]
        return f"{self.name or 'target'}{', at another place' if self.elsewhere else ''}"


@dataclass(frozen=True)
class DoubtfulSlice:
    """A slice of a propagated mask to look at: its voxel index along the cut axis, and why."""

    index: int
    reason: Reason


@dataclass(frozen=True)
class Doubt:
    """How far an answer holds when its question is read again.

    Attributes:
        readings: how many readings there are, the answer included: it, the sampled answers, and
            the answers to slightly changed views.
        agreement: mean Dice of the further readings' masks with the answer's, 0...1; two without a
            mask agree if they say the same.
        named: what the readings say, the most frequent first.
        probability: that the mask of the slice has a Dice of at least 0.7 with the truth; ``None``
            where nobody has fitted it for these weights.
        support: how much speaks for the answer, 0...1, fitted to nothing: the agreement times the
            segmenter's own estimate of the mask's IoU, or one half where there is no mask to
            estimate; 0 where the question was not understood. ``None`` in older records.
        followed: how many readings were carried through the volume, the answer included; 0 where
            the mask was not propagated.
        doubtful_slices: of a propagated mask, in rising order.
    """

    readings: int
    agreement: float
    named: tuple[NamedReading, ...]
    probability: float | None = None
    support: float | None = None
    followed: int = 0
    doubtful_slices: tuple[DoubtfulSlice, ...] = ()

    @property
    def words(self) -> str:
        """``6 of 8: spleen; 2 of 8: stomach``."""
        return "; ".join(f"{each.count} of {self.readings}: {each.words}" for each in self.named)
