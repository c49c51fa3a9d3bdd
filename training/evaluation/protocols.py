# SPDX-License-Identifier: Apache-2.0
"""Out of distribution: super-categories that a model was not trained on, beside all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medreasoner_training.evaluation.errors import EvaluationRunError
from medreasoner_training.evaluation.predictions import Prediction
from medreasoner_training.evaluation.summary import GroupSummary, summarise_group
from medreasoner_training.gate import GateConfig

OOD = "ood"
OTHERS, HELD_OUT = "not held out", "held out"


@dataclass(frozen=True)
class OutOfDistribution:
    """The figures of a run in two parts; whether a model knew the held-out one is not checked.

    Attributes:
        super_categories: that are held out.
        others: of all other questions whose target is present.
        held_out: of those.
    """

    super_categories: tuple[str, ...]
    others: GroupSummary
    held_out: GroupSummary

    @property
    def groups(self) -> tuple[GroupSummary, GroupSummary]:
        """Both parts."""
        return self.others, self.held_out


def out_of_distribution(
    predictions: Sequence[Prediction], super_categories: Sequence[str], config: GateConfig
) -> OutOfDistribution:
    """Divide a run's figures by whether the super-category is held out.

    Raises:
        EvaluationRunError: the run has no question of one of them.
    """
    present = [each for each in predictions if each.target_present]
    known = {each.super_category for each in present}
    unknown = [name for name in super_categories if name not in known]
    if unknown:
        raise EvaluationRunError(
            f"No question of the run is of the super-category {unknown[0]!r}; it has: "
            f"{', '.join(sorted(name for name in known if name)) or 'none'}."
        )
    names = set(super_categories)
    inside = [each for each in present if each.super_category not in names]
    outside = [each for each in present if each.super_category in names]
    return OutOfDistribution(
        tuple(super_categories),
        summarise_group(OTHERS, inside, config),
        summarise_group(HELD_OUT, outside, config),
    )
