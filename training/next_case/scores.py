# SPDX-License-Identifier: Apache-2.0
"""What speaks for labelling an image next: four scores, 0...1, each with its reason.

Each function takes the cases that wait and those that are covered, i.e. approved or with a reader
already. A score is ``None`` where nothing tells it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medreasoner_training.next_case.case import Case, Kind, Reading

_BLOCK = 1024
_LEAST_DEVIATION = 1e-3
#: Of nothing approved yet, the most typical image comes first.
_TYPICAL = "nothing is approved yet and it is typical of the images that wait"
_UNLIKE = "it looks unlike everything that is approved or with a reader"
_ALIKE = "it is the least alike to what is approved or with a reader"
_FAR = 0.5


@dataclass(frozen=True)
class Score:
    """How much speaks for an image, 0...1; ``reason`` is a clause that follows "because"."""

    value: float
    reason: str


Scores = list[Score | None]
Scorer = Callable[[Sequence[Case], Sequence[Case]], Scores]


def uncertainty(waiting: Sequence[Case], covered: Sequence[Case]) -> Scores:
    """Probability that the model's answer is wrong, of the worst answer about the image."""
    return [_worst([_doubt(reading) for reading in case.readings]) for case in waiting]


def disagreement(waiting: Sequence[Case], covered: Sequence[Case]) -> Scores:
    """How little speaks for an answer, of the one for which least does.

    It is 1 minus the answer's support, which tells a wrong answer better than how far sampled ones
    differ; that counts where no support was measured.
    """
    return [_worst([_without_support(reading) for reading in case.readings]) for case in waiting]


def coverage(waiting: Sequence[Case], covered: Sequence[Case]) -> Scores:
    """How few covered cases are of its target, modality, body part and scanner.

    The mean over what is known of ``1 / (1 + n)``, where ``n`` covered cases are of the same sort.
    """
    counts: dict[Kind, Counter[str]] = {kind: Counter() for kind in Kind}
    for case in covered:
        for kind, values in case.sorts.items():
            counts[kind].update(values)
    return [_rarity(case, counts) for case in waiting]


def novelty(waiting: Sequence[Case], covered: Sequence[Case]) -> Scores:
    """How far it looks from the nearest covered image: farthest first, as for k centres.

    Relative to the farthest of those that wait; features are standardised over all. Where nothing
    is covered, how near it lies to the middle of those that wait.
    """
    known = [place for place, case in enumerate(waiting) if case.feature is not None]
    scores: Scores = [None] * len(waiting)
    if not known:
        return scores
    images, others = _standardised([waiting[place] for place in known], covered)
    if len(others):
        distances = _nearest(images, others)
        values = distances / max(float(distances.max()), _LEAST_DEVIATION)
        reasons = [_UNLIKE if value >= _FAR else _ALIKE for value in values]
    else:
        distances = _nearest(images, images.mean(axis=0, keepdims=True))
        values = 1 - distances / max(float(distances.max()), _LEAST_DEVIATION)
        reasons = [_TYPICAL] * len(known)
    for place, value, reason in zip(known, values, reasons, strict=True):
        scores[place] = Score(float(value), reason)
    return scores


def _doubt(reading: Reading) -> Score | None:
    if not reading.understood:
        return Score(1.0, "the model did not understand the question about it")
    if reading.probability is None:
        return None
    told = f"the model's answer about it is right with a probability of {reading.probability:.0%}"
    return Score(1 - reading.probability, told)


def _without_support(reading: Reading) -> Score | None:
    if reading.support is not None:
        told = f"the support for the answer about it is {reading.support:.0%}"
        return Score(1 - reading.support, told)
    if reading.agreement is None:
        return None
    told = f"sampled answers about it agree to {reading.agreement:.0%}"
    return Score(1 - reading.agreement, told)


def _worst(found: Sequence[Score | None]) -> Score | None:
    return max((each for each in found if each is not None), key=_value, default=None)


def _value(score: Score) -> float:
    return score.value


def _rarity(case: Case, counts: dict[Kind, Counter[str]]) -> Score | None:
    # Of several values of one kind the rarest counts.
    rarest = {
        kind: min((counts[kind][value], value) for value in values)
        for kind, values in case.sorts.items()
        if values
    }
    if not rarest:
        return None
    value = float(np.mean([1 / (1 + count) for count, _ in rarest.values()]))
    kind = min(rarest, key=lambda kind: (rarest[kind][0], list(Kind).index(kind)))
    return Score(value, _few(kind, *rarest[kind]))


def _few(kind: Kind, count: int, value: str) -> str:
    # A scanner's value is a key that tells the reader nothing.
    of = "its scanner" if kind is Kind.SCANNER else f"{kind.value} {value}"
    if not count:
        return f"nothing of {of} is approved or with a reader"
    return f"only {count} of {of} {'is' if count == 1 else 'are'} approved or with a reader"


def _standardised(
    waiting: Sequence[Case], covered: Sequence[Case]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features of both (N, D) and (M, D), where there are some, with mean 0 and deviation 1."""
    found = [case.feature for case in (*waiting, *covered) if case.feature is not None]
    values = np.stack(found).astype(np.float64)
    values -= values.mean(axis=0)
    values /= np.maximum(values.std(axis=0), _LEAST_DEVIATION)
    return values[: len(waiting)], values[len(waiting) :]


def _nearest(images: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distance of each image (N, D) to the nearest other (M, D), float64 (N,)."""
    lengths = np.einsum("md,md->m", others, others)
    found = np.empty(len(images))
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        squares = np.einsum("nd,nd->n", block, block)[:, None] - 2 * block @ others.T + lengths
        found[start : start + _BLOCK] = np.sqrt(np.maximum(squares.min(axis=1), 0))
    return found
