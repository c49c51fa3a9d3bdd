# SPDX-License-Identifier: Apache-2.0
"""The arms of an ablation side by side, with intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medreasoner_training.ablations.config import UNTOUCHED
from medreasoner_training.evaluation import Prediction
from medreasoner_training.evaluation.protocols import HELD_OUT, OTHERS
from medreasoner_training.evaluation.summary import (
    WORDS,
    Estimate,
    Measure,
    estimate,
    paired_difference,
    patients_of,
    values_of,
)
from medreasoner_training.gate import Comparison, GateConfig
from medreasoner_training.markdown import table_lines

MEASURED: tuple[Measure, ...] = ("box_iou", "pdice_as_released", "dice")
Answers = Mapping[str, Sequence[Sequence[Prediction]]]


@dataclass(frozen=True)
class ArmFigures:
    """An arm on a part of the test questions.

    Attributes:
        arm: its name.
        part: ``not held out`` or ``held out``.
        questions: with a target.
        patients: whom they are of.
        means: of each measure, over seeds first and then over questions.
        against_untouched: paired difference in mask Dice; ``None`` of the untouched model itself.
        dice_by_seed: mean mask Dice of each training, in the order of the seeds.
    """

    arm: str
    part: str
    questions: int
    patients: int
    means: dict[Measure, Estimate]
    against_untouched: Comparison | None
    dice_by_seed: tuple[float, ...]


def arm_figures(
    answers: Answers, held_out_super_categories: Sequence[str], config: GateConfig
) -> list[ArmFigures]:
    """The figures of all arms, the untouched model first, part by part.

    Args:
        answers: of each arm and seed, to the same questions.
        held_out_super_categories: that the arms were not trained on.
        config: confidence, resamples and seed of the intervals, which draw whole patients.
    """
    held_out = set(held_out_super_categories)
    parts: list[tuple[str, Callable[[Prediction], bool]]] = [
        (OTHERS, lambda each: each.super_category not in held_out)
    ]
    if held_out:
        parts.append((HELD_OUT, lambda each: each.super_category in held_out))
    return [
        found
        for part, belongs in parts
        for arm in answers
        if (found := _figures(answers, arm, part, belongs, config)) is not None
    ]


def _figures(
    answers: Answers,
    arm: str,
    part: str,
    belongs: Callable[[Prediction], bool],
    config: GateConfig,
) -> ArmFigures | None:
    first = answers[arm][0]
    wanted = np.array([each.target_present and belongs(each) for each in first], bool)
    patients = patients_of(first)[wanted]
    if not wanted.any():
        return None
    means = {}
    for measure in MEASURED:
        found = estimate(_over_seeds(answers[arm], measure)[wanted], patients, config)
        if found is not None:
            means[measure] = found
    against = None if arm == UNTOUCHED else _against_untouched(answers, arm, wanted, config)
    dice = (values_of(run, "dice")[wanted] for run in answers[arm])
    by_seed = tuple(float(np.nanmean(each)) for each in dice if not np.isnan(each).all())
    count = int(wanted.sum())
    return ArmFigures(arm, part, count, len(np.unique(patients)), means, against, by_seed)


def _against_untouched(
    answers: Answers, arm: str, wanted: NDArray[np.bool_], config: GateConfig
) -> Comparison | None:
    """The paired difference in mask Dice over the wanted questions, (N,)."""
    own, untouched = (_over_seeds(answers[name], "dice")[wanted] for name in (arm, UNTOUCHED))
    return paired_difference(untouched, own, patients_of(answers[arm][0])[wanted], config, "dice")


def _over_seeds(runs: Sequence[Sequence[Prediction]], measure: Measure) -> NDArray[np.float64]:
    """The mean over the seeds of each question, (N,); NaN where a question has none."""
    mean: NDArray[np.float64] = np.mean([values_of(run, measure) for run in runs], axis=0)
    return mean


def table_rows(figures: Sequence[ArmFigures]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table, in percent."""
    measured = [WORDS[measure] for measure in MEASURED]
    head = ["arm", "test questions", "n", *measured, "Dice of each seed", "Dice against untouched"]
    lines = []
    for each in figures:
        cells = [_mean(each.means.get(measure)) for measure in MEASURED]
        seeds = ", ".join(f"{100 * dice:.1f}" for dice in each.dice_by_seed) or "–"
        lines.append([each.arm, each.part, str(each.questions), *cells, seeds, _against(each)])
    return head, lines


def markdown(figures: Sequence[ArmFigures]) -> str:
    """The table as a document holds it."""
    return "\n".join(table_lines(*table_rows(figures)))


def _mean(found: Estimate | None) -> str:
    if found is None:
        return "–"
    if found.low is None or found.high is None:
        return f"{100 * found.mean:.1f}"
    return f"{100 * found.mean:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _against(figures: ArmFigures) -> str:
    line = figures.against_untouched
    if line is None:
        return "–"
    if line.low is None or line.high is None:
        return f"{100 * line.difference:+.1f}"
    return f"{100 * line.difference:+.1f} ({100 * line.low:+.1f} to {100 * line.high:+.1f})"
