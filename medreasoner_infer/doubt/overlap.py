# SPDX-License-Identifier: Apache-2.0
"""How far the masks of readings overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.doubt.looks import Look
from medreasoner_infer.doubt_record import NamedReading

ELSEWHERE_BELOW_DICE = 0.5
EVEN_CHANCES = 0.5
"""Of an answer that marks nothing no model estimates how far it is right."""


def pairwise_dice(looks: Sequence[Look]) -> NDArray[np.float64]:
    """Dice of each pair of masks, (N, N); without any voxel 1 if both say the same, else 0."""
    flat = np.stack([look.mask.ravel() for look in looks]).astype(np.float32)
    common = (flat @ flat.T).astype(np.float64)
    sizes = np.diag(common)
    sums = sizes[:, None] + sizes[None, :]
    same = np.array([[a.outcome == b.outcome for b in looks] for a in looks], dtype=float)
    return np.where(sums > 0, 2 * common / np.maximum(sums, 1), same)


def mean_with_answer(dice: NDArray[np.float64]) -> float:
    """How far the further readings, at least one, agree with the answer, which is the first."""
    return float(dice[0, 1:].mean())


def support_of(agreement: float, predicted_iou: float | None, *, understood: bool) -> float:
    """How much speaks for an answer, 0...1: its readings, and the segmenter of its mask.

    Args:
        agreement: of the further readings with the answer.
        predicted_iou: the segmenter's estimate; ``None`` of an answer without a mask.
        understood: whether the model understood the question; else nothing speaks for it.
    """
    if predicted_iou is None:
        return agreement * EVEN_CHANCES if understood else 0.0
    return agreement * min(max(predicted_iou, 0.0), 1.0)


def named_readings(looks: Sequence[Look], dice: NDArray[np.float64]) -> tuple[NamedReading, ...]:
    """What the readings say, the most frequent first, at equal numbers the answer's.

    Args:
        looks: the answer first.
        dice: of each pair, (N, N).
    """
    has_place = bool(looks[0].mask.any())
    said = Counter(
        (
            look.outcome,
            look.name if look.outcome == "present" else None,
            look.outcome == "present" and has_place and dice[0, at] < ELSEWHERE_BELOW_DICE,
        )
        for at, look in enumerate(looks)
    )
    return tuple(
        NamedReading(outcome, name, count, bool(elsewhere))
        for (outcome, name, elsewhere), count in said.most_common()
    )
