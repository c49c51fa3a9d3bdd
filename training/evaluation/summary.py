# SPDX-License-Identifier: Apache-2.0
"""Means of predictions with intervals, overall and by group, and whose error is how large."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medreasoner_training.evaluation.outcomes import OUTCOMES, Outcome
from medreasoner_training.evaluation.predictions import Prediction
from medreasoner_training.gate import Comparison, GateConfig, compare_paired, mean_with_interval

Measure = Literal[
    "box_iou",
    "pdice_as_released",
    "pdice",
    "dice_points",
    "dice_box",
    "dice",
    "dice_true_points",
    "dice_true_box",
    "dice_true_prompts",
    "dice_jittered_box",
    "surface_dice",
    "hausdorff95_px",
]
MEASURES: tuple[Measure, ...] = get_args(Measure)
WORDS: dict[Measure, str] = {
    "box_iou": "box IoU",
    "pdice_as_released": "pDice as released",
    "pdice": "pDice",
    "dice_points": "Dice, points only",
    "dice_box": "Dice, box only",
    "dice": "Dice, both",
    "dice_true_points": "Dice, true points",
    "dice_true_box": "Dice, true box",
    "dice_true_prompts": "Dice, true prompts",
    "dice_jittered_box": "Dice, jittered true box",
    "surface_dice": "surface Dice",
    "hausdorff95_px": "Hausdorff 95 %, px",
}
Grouping = Literal["super_category", "category", "modality"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
UNTOLD = "not told"


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` questions; low and high bound it, ``None`` with fewer than two patients."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class GroupSummary:
    """The questions of a group whose target is present; ``values`` lacks what none of them has."""

    name: str
    n: int
    patients: int
    values: dict[Measure, Estimate]


@dataclass(frozen=True)
class Errors:
    """What is missing of a Dice of 1, in parts that add up to it.

    Attributes:
        segmenter: with the true prompts already.
        without_box: what answers without a box lose beside that, over all questions.
        wrong_prompts: what the other answers' boxes and points lose beside that, likewise.
        reasoner: the sum of the last two.
    """

    segmenter: Estimate
    without_box: Estimate
    wrong_prompts: Estimate
    reasoner: Estimate


@dataclass(frozen=True)
class Summary:
    """A run in figures.

    Attributes:
        overall: of all questions whose target is present.
        groups: the same by group, largest first.
        outcomes: how often each outcome was answered, of present and of absent targets.
        errors: ``None`` without masks from true prompts.
    """

    overall: GroupSummary
    groups: dict[Grouping, tuple[GroupSummary, ...]]
    outcomes: dict[Literal["present", "absent"], dict[Outcome, int]]
    errors: Errors | None


def summarise(predictions: Sequence[Prediction], config: GateConfig) -> Summary:
    """Means over the questions whose target is present, and counts of outcomes.

    Args:
        predictions: of one run.
        config: confidence, resamples and seed of the intervals, which draw whole patients.
    """
    present = [each for each in predictions if each.target_present]
    return Summary(
        summarise_group("all", present, config),
        {grouping: _groups(grouping, present, config) for grouping in GROUPINGS},
        {
            "present": outcomes_of(present),
            "absent": outcomes_of(each for each in predictions if not each.target_present),
        },
        _errors(present, config),
    )


def values_of(predictions: Iterable[Prediction], measure: Measure) -> NDArray[np.float64]:
    """A measure of each prediction, (N,); NaN where it has none."""
    found = (getattr(each, measure) for each in predictions)
    return np.array([math.nan if value is None else value for value in found], np.float64)


def patients_of(predictions: Iterable[Prediction]) -> NDArray[np.str_]:
    """Whom each prediction is of, (N,)."""
    return np.array([each.patient for each in predictions], np.str_)


def estimate(
    values: NDArray[np.float64], patients: NDArray[np.str_], config: GateConfig
) -> Estimate | None:
    """Mean and interval over patients; ``None`` where all values are NaN."""
    found = mean_with_interval(values, patients, config, metric="")
    if found is None:
        return None
    return Estimate(found.candidate_mean, found.low, found.high, found.samples)


def paired_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    patients: NDArray[np.str_],
    config: GateConfig,
    measure: Measure,
    label: str | None = None,
) -> Comparison | None:
    """Second minus first over the questions of which both have a value; ``None`` if of none.

    Args:
        first: (N,) values of each question; NaN where it has none.
        second: likewise.
        patients: (N,) whom each question is of.
        config: confidence, resamples and seed of the interval, which draws whole patients.
        measure: that the values are of.
        label: name of the group of questions.
    """
    known = ~(np.isnan(first) | np.isnan(second))
    return compare_paired(
        second[known], first[known], patients[known], config, metric=measure, label=label
    )


def _groups(
    grouping: Grouping, present: Sequence[Prediction], config: GateConfig
) -> tuple[GroupSummary, ...]:
    names = Counter(getattr(each, grouping) or UNTOLD for each in present)
    return tuple(
        summarise_group(
            name, [p for p in present if (getattr(p, grouping) or UNTOLD) == name], config
        )
        for name, _ in sorted(names.items(), key=lambda item: (-item[1], item[0]))
    )


def summarise_group(name: str, present: Sequence[Prediction], config: GateConfig) -> GroupSummary:
    """The means of some predictions, whose target is present."""
    patients = patients_of(present)
    found = {
        measure: estimate(values_of(present, measure), patients, config) for measure in MEASURES
    }
    values = {measure: value for measure, value in found.items() if value is not None}
    return GroupSummary(name, len(present), len(np.unique(patients)), values)


def outcomes_of(predictions: Iterable[Prediction]) -> dict[Outcome, int]:
    """How often each outcome was answered, those that were not included."""
    counted = Counter(each.outcome for each in predictions)
    return {outcome: counted[outcome] for outcome in OUTCOMES}


def _errors(present: Sequence[Prediction], config: GateConfig) -> Errors | None:
    ceiling, reached = (values_of(present, name) for name in ("dice_true_prompts", "dice"))
    lost, patients = ceiling - reached, patients_of(present)
    has_box = np.array([each.outcome == "present" for each in present], bool)
    without, wrong = np.where(has_box, lost * 0, lost), np.where(has_box, lost, lost * 0)
    parts = [estimate(each, patients, config) for each in (1 - ceiling, without, wrong, lost)]
    segmenter, without_box, wrong_prompts, reasoner = parts
    if segmenter is None or without_box is None or wrong_prompts is None or reasoner is None:
        return None
    return Errors(segmenter, without_box, wrong_prompts, reasoner)
