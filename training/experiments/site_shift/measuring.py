# SPDX-License-Identifier: Apache-2.0
"""A reasoner's scores on held-out patients, kept in a file, and the difference of two of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medreasoner_infer.atomic import replacing
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.models.store import ReasonerStore, load_candidate
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.types import ModelIdentity
from medreasoner_training.finetune.scoring import answer_rows, held_out_of, model_scores
from medreasoner_training.finetune.settings import ModelSettings
from medreasoner_training.finetune.tunable import locate_reasoner
from medreasoner_training.gate import (
    Comparison,
    GateConfig,
    HeldOut,
    ModelScores,
    compare_paired,
    metric_values,
)
from medreasoner_training.samples import TRAIN, open_dataset

ABOVE_HALF = "boxes_above_half"
POINT_MEASURES = ("points_dice", "points_inside")
MEASURES = ("box_iou", ABOVE_HALF, *POINT_MEASURES, "mask_dice", "absence", "failures")


@dataclass(frozen=True, eq=False)
class Measured:
    """One model on the samples of one site.

    Attributes:
        held_out: the samples.
        scores: what the gate compares.
        points: (N,) Dice of the key points' discs (``points_dice``) and share of the key points
            that lie in the target (``points_inside``), 0 where there are none.
    """

    held_out: HeldOut
    scores: ModelScores
    points: Mapping[str, np.ndarray] = field(default_factory=dict)


def measure(
    data_set: Path,
    reasoner: Reasoner,
    *,
    segmenter: str | None = "embedded",
    on_scored: Callable[[int, int], None] | None = None,
) -> Measured:
    """Ask a reasoner every question of a data set of held-out patients.

    Args:
        data_set: folder as exported, without a validation split.
        reasoner: as it is served.
        segmenter: registry name or path of the frozen segmenter; ``None`` measures no masks.
        on_scored: called with (rows done, all rows).
    """
    from medreasoner_infer.segmenters import load_sam2

    rows = open_dataset(data_set).load(TRAIN)
    frozen = None if segmenter is None else load_sam2(resolve_model("segmenter", segmenter))
    outcomes = answer_rows(reasoner, rows, segmenter=frozen, on_scored=on_scored)
    scores = model_scores(outcomes, reasoner.identity.name, with_masks=frozen is not None)
    points = {
        name: np.array([getattr(outcome, name) for outcome in outcomes], float)
        for name in POINT_MEASURES
    }
    return Measured(held_out_of(rows), scores, points)


def served(name: str | None, store: ReasonerStore) -> Reasoner:
    """The reasoner of that candidate, or the embedded one."""
    if name is not None:
        return load_candidate(store, store.candidate(name), device="cpu")
    from medreasoner_infer.models.loading import load_reasoner

    return load_reasoner(resolve_model("reasoner", "embedded"), device="cpu")


def unconstrained(model: str, store: ReasonerStore) -> Reasoner:
    """A reasoner that decodes without the answer grammar, so that its own failures show.

    Args:
        model: a candidate of the store, or a registry name.
        store: of the candidates.
    """
    from medreasoner_infer.reasoners.transformers_engine import TransformersReasoner
    from medreasoner_infer.reasoners.transformers_loading import load_model

    start = locate_reasoner(ModelSettings(model), store)
    loaded = load_model(
        start.folder, start.settings.input_size, device="cpu", adapter=start.adapter
    )
    identity = ModelIdentity(start.name, str(start.folder), None, None, "as its base")
    return TransformersReasoner(loaded, identity, start.settings, constrained=False)


def save(measured: Measured, path: Path) -> None:
    """Write an ``.npz`` file, whole or not at all."""
    held_out, scores = measured.held_out, measured.scores
    dice = {} if scores.mask_dice is None else {"mask_dice": scores.mask_dice}
    with replacing(path) as unfinished:
        np.savez_compressed(
            unfinished,
            name=np.array(scores.name),
            patients=held_out.patients,
            labels=held_out.labels,
            present=held_out.present,
            failed=scores.failed,
            said_absent=scores.said_absent,
            box_iou=scores.box_iou,
            **dice,
            **measured.points,
        )


def load(path: Path) -> Measured:
    """The inverse of :func:`save`."""
    with np.load(path, allow_pickle=False) as file:
        held_out = HeldOut(file["patients"], file["labels"], file["present"])
        dice = file.get("mask_dice")
        scores = ModelScores(
            str(file["name"]), file["failed"], file["said_absent"], file["box_iou"], dice
        )
        points = {name: file[name] for name in POINT_MEASURES if name in file}
    return Measured(held_out, scores, points)


def compare(
    before: Measured, after: Measured, config: GateConfig | None = None
) -> dict[str, Comparison]:
    """After against before by measure; intervals draw whole patients, as the gate's do.

    ``absence`` is the share of right "not present" answers, ``boxes_above_half`` the share of boxes
    with IoU > 0.5. Measures that do not apply are left out.

    Raises:
        ScoresError: the two were asked different questions.
    """
    found = {}
    for measure_name in MEASURES:
        values = [values_of(each, measure_name) for each in (after, before)]
        if values[0] is None or values[1] is None:
            continue
        comparison = compare_paired(
            values[0], values[1], before.held_out.patients, config or GateConfig(),
            metric=measure_name,
        )  # fmt: skip
        if comparison is not None:
            found[measure_name] = comparison
    return found


def values_of(measured: Measured, measure_name: str) -> np.ndarray | None:
    """One of :data:`MEASURES` per sample; NaN where it does not apply, ``None`` if not measured."""
    scores, held_out = measured.scores, measured.held_out
    if measure_name in POINT_MEASURES:
        points = measured.points.get(measure_name)
        return None if points is None else np.where(held_out.present, points, np.nan)
    if measure_name != ABOVE_HALF:
        return metric_values(held_out, scores, measure_name)  # type: ignore[arg-type]
    above = replace(scores, box_iou=(scores.box_iou > 0.5).astype(float))
    return metric_values(held_out, above, "box_iou")
