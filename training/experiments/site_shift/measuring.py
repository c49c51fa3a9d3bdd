# SPDX-License-Identifier: Apache-2.0
"""A reasoner's scores on the patients of a site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.models.store import ReasonerStore, load_candidate
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_training.finetune.scoring import answer_rows, held_out_of, model_scores
from medreasoner_training.gate import HeldOut, ModelScores
from medreasoner_training.samples import TRAIN, open_dataset


@dataclass(frozen=True, eq=False)
class Measured:
    """One model on the samples of one site.

    Attributes:
        held_out: the samples.
        scores: what the gate compares.
    """

    held_out: HeldOut
    scores: ModelScores


def measure(
    data_set: Path,
    reasoner: Reasoner,
    on_scored: Callable[[int, int], None] | None = None,
) -> Measured:
    """Ask a reasoner every question of a data set of held-out patients.

    Args:
        data_set: folder as exported, without a validation split.
        reasoner: as it is served.
        on_scored: called with (rows done, all rows).
    """
    rows = open_dataset(data_set).load(TRAIN)
    outcomes = answer_rows(reasoner, rows, segmenter=None, on_scored=on_scored)
    scores = model_scores(outcomes, reasoner.identity.name, with_masks=False)
    return Measured(held_out_of(rows), scores)


def served(name: str | None, store: ReasonerStore) -> Reasoner:
    """The reasoner of that candidate, or the embedded one."""
    if name is not None:
        return load_candidate(store, store.candidate(name), device="cpu")
    from medreasoner_infer.models.loading import load_reasoner

    return load_reasoner(resolve_model("reasoner", "embedded"), device="cpu")
