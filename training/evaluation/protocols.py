# SPDX-License-Identifier: Apache-2.0
"""Out of distribution: super-categories that a model was not trained on, beside all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medreasoner_training.evaluation.errors import EvaluationRunError
from medreasoner_training.evaluation.predictions import Prediction
from medreasoner_training.evaluation.rows import EvaluationRow, RowSource
from medreasoner_training.evaluation.running import places_of
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


def require_asked(
    source: RowSource, limit: int | None, super_categories: Sequence[str], *, whose: str = "run"
) -> None:
    """Check, before any model is loaded, that a target of each super-category is asked about.

    Args:
        source: the data set; its rows are read, their pictures not opened.
        limit: as :class:`.running.RunSettings` takes it.
        super_categories: that are held out.
        whose: questions they are, for the message.

    Raises:
        EvaluationRunError: there is no such question.
        EvaluationDataError: a row cannot be used.
    """
    if super_categories:
        rows = source.read(places_of(source.count, limit))
        _require_known(
            {row.super_category for row in rows if _may_show(row)}, super_categories, whose
        )


def _may_show(row: EvaluationRow) -> bool:
    """Whether the row's target is there, as far as is known before its mask is opened."""
    told = row.ground_truth
    return row.mask is not None if told is None else told.strip() != "null"


def _require_known(known: set[str], super_categories: Sequence[str], whose: str) -> None:
    unknown = [name for name in super_categories if name not in known]
    if unknown:
        raise EvaluationRunError(
            f"No question of the {whose} is of the super-category {unknown[0]!r}; it has: "
            f"{', '.join(sorted(name for name in known if name)) or 'none'}."
        )


def out_of_distribution(
    predictions: Sequence[Prediction], super_categories: Sequence[str], config: GateConfig
) -> OutOfDistribution:
    """Divide a run's figures by whether the super-category is held out.

    Raises:
        EvaluationRunError: the run has no question of one of them.
    """
    present = [each for each in predictions if each.target_present]
    _require_known({each.super_category for each in present}, super_categories, "run")
    names = set(super_categories)
    inside = [each for each in present if each.super_category not in names]
    outside = [each for each in present if each.super_category in names]
    return OutOfDistribution(
        tuple(super_categories),
        summarise_group(OTHERS, inside, config),
        summarise_group(HELD_OUT, outside, config),
    )
