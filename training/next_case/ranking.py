# SPDX-License-Identifier: Apache-2.0
"""The order in which waiting images are offered, and which one a reader gets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from medreasoner_training.next_case.case import Case
from medreasoner_training.next_case.scores import (
    Score,
    Scorer,
    Scores,
    coverage,
    disagreement,
    novelty,
    uncertainty,
)


class Strategy(str, Enum):
    """What the next image is chosen by; the value is its name for MONAI Label's clients."""

    COMBINED = "combined"
    UNCERTAINTY = "uncertainty"
    DISAGREEMENT = "disagreement"
    COVERAGE = "coverage"
    NOVELTY = "novelty"


DESCRIPTIONS: Mapping[Strategy, str] = {
    Strategy.COMBINED: "Doubt, coverage and novelty together",
    Strategy.UNCERTAINTY: "Images about which the model is probably wrong first",
    Strategy.DISAGREEMENT: "Images whose answers have the least support first",
    Strategy.COVERAGE: "Targets, modalities, body parts and scanners with few approved masks first",
    Strategy.NOVELTY: "Images that look unlike anything approved first",
}
#: What an image is worth where nothing tells a score: neither doubtful nor certain.
UNTOLD = 0.5
_NOT_READ = "the model has not read it yet, and"
_NOT_TOLD: Mapping[Strategy, str] = {
    Strategy.UNCERTAINTY: "no calibrated answer about it is recorded, and",
    Strategy.DISAGREEMENT: "only single answers about it are recorded, and",
}
_UNKNOWN = "nothing is known of it yet"
_BY_DOUBT: Mapping[Strategy, Scorer] = {
    Strategy.UNCERTAINTY: uncertainty,
    Strategy.DISAGREEMENT: disagreement,
}


@dataclass(frozen=True)
class Ranked:
    """A waiting image in its place; ``score`` is 0...1, ``reason`` one sentence.

    The sentence holds codes and figures, never an identifier or a caller's words.
    """

    case: Case
    score: float
    reason: str


def ranked(strategy: Strategy, waiting: Sequence[Case], covered: Sequence[Case]) -> list[Ranked]:
    """The waiting cases, what teaches most first; equals in the order that they are given in.

    To the strategies by doubt, an image of which no answer tells any is worth :data:`UNTOLD`:
    behind those that are doubtful, before those that are certain, and by coverage and novelty
    among its likes.

    Args:
        strategy: by what.
        waiting: images without an approved mask.
        covered: those that are approved or with a reader.
    """
    rest = _together([coverage(waiting, covered), novelty(waiting, covered)])
    if strategy is Strategy.COVERAGE:
        scores = _or_else(coverage(waiting, covered), rest)
    elif strategy is Strategy.NOVELTY:
        scores = _or_else(novelty(waiting, covered), rest)
    elif strategy is Strategy.COMBINED:
        scores = _combined(waiting, covered)
    else:
        doubt = _BY_DOUBT[strategy](waiting, covered)
        unread = [
            Score(UNTOLD, f"{_NOT_TOLD[strategy] if case.readings else _NOT_READ} {each.reason}")
            for case, each in zip(waiting, rest, strict=True)
        ]
        scores = [found or other for found, other in zip(doubt, unread, strict=True)]
    order = sorted(
        range(len(waiting)), key=lambda place: (-scores[place].value, -rest[place].value)
    )
    return [Ranked(waiting[p], scores[p].value, _sentence(scores[p].reason)) for p in order]


def pick(order: Sequence[Ranked], patients: Collection[str]) -> Ranked | None:
    """The first of a patient who is none of these; the first of all where none is.

    Args:
        order: of :func:`ranked`.
        patients: keys of those whose images were offered last.
    """
    others = (each for each in order if each.case.patient not in patients)
    return next(others, next(iter(order), None))


def _combined(waiting: Sequence[Case], covered: Sequence[Case]) -> list[Score]:
    """Doubt, coverage and novelty in equal parts; the reason is that of the greatest part."""
    doubts = zip(uncertainty(waiting, covered), disagreement(waiting, covered), strict=True)
    doubt: Scores = [
        max((each for each in pair if each is not None), key=lambda s: s.value, default=None)
        for pair in doubts
    ]
    parts = [doubt, coverage(waiting, covered), novelty(waiting, covered)]
    return [
        Score(each.value, each.reason if case.readings else f"{_NOT_READ} {each.reason}")
        for case, each in zip(waiting, _together(parts), strict=True)
    ]


def _together(parts: Sequence[Scores]) -> list[Score]:
    """The mean of several scores of each image; what is not told is worth :data:`UNTOLD`."""
    found = []
    for scores in zip(*parts, strict=True):
        told = [each for each in scores if each is not None]
        value = float(np.mean([UNTOLD if each is None else each.value for each in scores]))
        reason = max(told, key=lambda s: s.value).reason if told else _UNKNOWN
        found.append(Score(value, reason))
    return found


def _or_else(scores: Scores, rest: Sequence[Score]) -> list[Score]:
    """Where nothing tells a score, half of it, for the reason that there is."""
    return [found or Score(UNTOLD, other.reason) for found, other in zip(scores, rest, strict=True)]


def _sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}."
