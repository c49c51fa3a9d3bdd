# SPDX-License-Identifier: Apache-2.0
"""Two evaluations of the same questions, set against each other pair by pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medreasoner_training.evaluation.errors import EvaluationRunError
from medreasoner_training.evaluation.outcomes import Outcome
from medreasoner_training.evaluation.predictions import (
    PREDICTIONS_NAME,
    Prediction,
    read_predictions,
)
from medreasoner_training.evaluation.summary import (
    MEASURES,
    UNTOLD,
    Grouping,
    Measure,
    outcomes_of,
    paired_difference,
    patients_of,
    values_of,
)
from medreasoner_training.gate import Comparison, GateConfig

_MOST_TOLD = 5
Pair = tuple[Prediction, Prediction]


@dataclass(frozen=True)
class Differing:
    """A question on which the two differ; the difference is second minus first, in Dice.

    ``places`` are those of the question in the first and in the second run, from 0.
    """

    id: str
    question: str
    difference: float
    places: tuple[int, int]


@dataclass(frozen=True)
class Compared:
    """The second evaluation against the first; differences are second minus first.

    Attributes:
        questions: that both have, with a target.
        left_out: that one of them has only.
        overall: of each measure that both have.
        by_group: of Dice, for each super-category.
        gained: the questions on which the second gains most.
        lost: the questions on which it loses most.
        outcomes: how often the first and the second run answered what, of the shared questions
            with a target.
    """

    questions: int
    left_out: int
    overall: tuple[Comparison, ...]
    by_group: tuple[Comparison, ...]
    gained: tuple[Differing, ...]
    lost: tuple[Differing, ...]
    outcomes: tuple[dict[Outcome, int], dict[Outcome, int]]


def compare_reports(first: Path, second: Path, config: GateConfig) -> Compared:
    """Compare what two runs predicted for the questions that both have.

    Args:
        first: folder of an evaluation, or its ``report.json``.
        second: likewise.
        config: confidence, resamples and seed of the intervals, which draw whole patients.

    Raises:
        EvaluationRunError: a folder holds no evaluation, or they share no question with a target.
        MissingExtraError: pyarrow is not installed.
    """
    runs = [read_predictions(folder_of(path) / PREDICTIONS_NAME) for path in (first, second)]
    pairs, places, left_out = _paired(*runs)
    if not pairs:
        raise EvaluationRunError(
            "The two evaluations share no question with a target. Compare runs on the same data."
        )
    found = ((measure, _compare(pairs, measure, config)) for measure in MEASURES)
    gained, lost = _most_differing(pairs, places)
    return Compared(
        len(pairs),
        left_out,
        tuple(line for _, line in found if line is not None),
        _by_group(pairs, "super_category", config),
        gained,
        lost,
        (outcomes_of(first for first, _ in pairs), outcomes_of(second for _, second in pairs)),
    )


def folder_of(path: Path) -> Path:
    """The folder of an evaluation that is named by itself or by its ``report.json``."""
    return path if path.is_dir() else path.parent


def _paired(
    first: Sequence[Prediction], second: Sequence[Prediction]
) -> tuple[list[Pair], list[tuple[int, int]], int]:
    """Predictions of the same row; ids that a data set holds several times pair in their order.

    The words of a row's question may differ: so two ways of asking are compared. The places of
    both predictions in their runs are told, and how many have no partner.
    """
    known = dict(_numbered(first))
    other = dict(_numbered(second))
    both = [key for key in known if key in other]
    places = [(known[key], other[key]) for key in both if first[known[key]].target_present]
    pairs = [(first[one], second[two]) for one, two in places]
    return pairs, places, len(known) + len(other) - 2 * len(both)


def _numbered(
    predictions: Iterable[Prediction],
) -> Iterable[tuple[tuple[str, bool, int], int]]:
    """What tells a prediction from all others of its run, and its place there."""
    seen = Counter[tuple[str, bool]]()
    for place, each in enumerate(predictions):
        key = (each.id, each.target_present)
        yield (*key, seen[key]), place
        seen[key] += 1


def _compare(
    pairs: Sequence[Pair], measure: Measure, config: GateConfig, label: str | None = None
) -> Comparison | None:
    first, second = (values_of([pair[at] for pair in pairs], measure) for at in (0, 1))
    patients = patients_of(pair[0] for pair in pairs)
    return paired_difference(first, second, patients, config, measure, label)


def _by_group(
    pairs: Sequence[Pair], grouping: Grouping, config: GateConfig
) -> tuple[Comparison, ...]:
    names = Counter(getattr(first, grouping) or UNTOLD for first, _ in pairs)
    lines = (
        _compare(
            [p for p in pairs if (getattr(p[0], grouping) or UNTOLD) == name], "dice", config, name
        )
        for name, _ in names.most_common()
    )
    return tuple(line for line in lines if line is not None)


def _most_differing(
    pairs: Sequence[Pair], places: Sequence[tuple[int, int]]
) -> tuple[tuple[Differing, ...], tuple[Differing, ...]]:
    found = [
        Differing(first.id, first.question, second.dice - first.dice, at)
        for (first, second), at in zip(pairs, places, strict=True)
        if first.dice is not None and second.dice is not None
    ]
    rising = sorted(found, key=lambda each: (each.difference, each.id))
    lost = [each for each in rising if each.difference < 0][:_MOST_TOLD]
    gained = [each for each in reversed(rising) if each.difference > 0][:_MOST_TOLD]
    return tuple(gained), tuple(lost)
