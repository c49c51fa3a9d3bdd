# SPDX-License-Identifier: Apache-2.0
"""The best, median and worst answers of a run, and their pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from medreasoner_infer.segmenters.base import Segmenter
from medreasoner_training.evaluation.drawing import answer_panel, picture, true_panel
from medreasoner_training.evaluation.pictures import Case
from medreasoner_training.evaluation.predictions import Prediction

Rank = Literal["best", "median", "worst"]
PER_RANK = 3


@dataclass(frozen=True)
class Picked:
    """A prediction at its place in the run."""

    rank: Rank
    index: int
    prediction: Prediction


@dataclass(frozen=True)
class Pictured:
    """A prediction with its picture, a PNG as base64: the truth on the left, the answer right."""

    rank: Rank
    prediction: Prediction
    png_base64: str


def picked(predictions: Sequence[Prediction]) -> tuple[Picked, ...]:
    """Which answers are shown: by Dice, and of equal ones those with a box first.

    Answers without a box all have 0; a wrong box shows more of what goes wrong.
    """
    scored = [
        (each.dice, each.outcome != "present", index)
        for index, each in enumerate(predictions)
        if each.target_present and each.dice is not None
    ]
    rising = [index for *_, index in sorted(scored)]
    falling = [index for *_, index in sorted(scored, key=lambda s: (-s[0], *s[1:]))]
    middle = max(0, (len(rising) - PER_RANK) // 2)
    ranks: tuple[tuple[Rank, list[int]], ...] = (
        ("best", falling[:PER_RANK]),
        ("median", rising[middle : middle + PER_RANK]),
        ("worst", rising[:PER_RANK]),
    )
    return tuple(Picked(rank, index, predictions[index]) for rank, at in ranks for index in at)


def pictured(
    found: Sequence[Picked],
    cases: Callable[[Sequence[int]], Iterator[Case]],
    segmenter: Segmenter,
) -> tuple[Pictured, ...]:
    """Draw what was picked; its masks are made again.

    Args:
        found: of :func:`picked`.
        cases: gives the cases at some places of the run, in rising order.
        segmenter: of the run.
    """
    places = sorted({each.index for each in found})
    drawn = {}
    for index, case in zip(places, cases(places), strict=True):
        prediction = next(each.prediction for each in found if each.index == index)
        panels = [true_panel(case), answer_panel(case, prediction, segmenter)]
        drawn[index] = picture(case.shown.image.pixels, panels)
    return tuple(Pictured(each.rank, each.prediction, drawn[each.index]) for each in found)
