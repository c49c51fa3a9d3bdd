# SPDX-License-Identifier: Apache-2.0
"""Questions about a whole volume, for which the pipeline chooses the slice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest
from medreasoner_training.embedded.end_to_end.cases import MIN_SECTION_PX, RealOrgan
from medreasoner_training.embedded.reasoner.real_ct import phrasing
from medreasoner_training.embedded.reasoner.scoring import mean_with_interval
from medreasoner_training.rewards import dice

PHRASINGS = 2


@dataclass(frozen=True)
class SearchScore:
    """One answered question.

    ``section_share`` is the target's area on the chosen slice over its largest section, and
    ``dice`` that of the mask on this slice; both 0 where the slice does not show the target.
    """

    target: str
    section_share: float
    dice: float


def search_scores(pipeline: Pipeline, organs: Iterable[RealOrgan]) -> list[SearchScore]:
    """Ask for each organ, without a slice, in a trained and in a held-out phrasing.

    Organs whose largest section is below 50 px are left out.
    """
    return [
        _score(pipeline, organ, phrasing(organ.label, 0, held_out=number == 1))
        for organ in organs
        if organ.truth_khw.sum(axis=(1, 2)).max() >= MIN_SECTION_PX
        for number in range(PHRASINGS)
    ]


def _score(pipeline: Pipeline, organ: RealOrgan, query: str) -> SearchScore:
    result = pipeline.ask(organ.volume, AskRequest(query))
    truth = organ.truth_khw[result.slice.index]
    if not truth.any():
        return SearchScore(organ.name, 0.0, 0.0)
    largest = organ.truth_khw.sum(axis=(1, 2)).max()
    answered = result.mask_ijk[:, :, result.slice.index].T > 0
    return SearchScore(organ.name, float(truth.sum() / largest), dice(answered, truth))


def summarise_search(scores: Sequence[SearchScore]) -> dict:
    """Means with 95 % bootstrap intervals."""
    return {
        "shows_target": mean_with_interval([score.section_share > 0 for score in scores]),
        "section_share": mean_with_interval([score.section_share for score in scores]),
        "dice": mean_with_interval([score.dice for score in scores]),
    }
