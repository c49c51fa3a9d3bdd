# SPDX-License-Identifier: Apache-2.0
"""A reply, measured: its box and points, the masks from them, and those from the true prompts."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import PromptError
from medreasoner_infer.prompting import grounding_in_slice_px, prompt_from_grounding
from medreasoner_infer.segmenters.base import Segmenter
from medreasoner_infer.stopwatch import Stopwatch
from medreasoner_infer.types import XY, XYXY, Grounding, ReasonerAnswer, SlicePrompt
from medreasoner_training.evaluation.metrics import (
    MaskScores,
    PromptScores,
    mask_dice,
    mask_scores,
    prompt_scores,
)
from medreasoner_training.evaluation.outcomes import Reply, outcome_of
from medreasoner_training.evaluation.pictures import Case
from medreasoner_training.evaluation.predictions import Prediction
from medreasoner_training.evaluation.prompts import (
    Parts,
    jittered_box,
    part_of,
    prompt_on_image,
)


@dataclass(frozen=True)
class Measuring:
    """Which masks are made beside that of the reasoner's box and points.

    Attributes:
        parts: those of the box alone and of the points alone.
        true_prompts: those of the true prompts, the segmenter's ceiling.
    """

    parts: bool = True
    true_prompts: bool = True


@dataclass(frozen=True)
class Located:
    """Where an answer sees the target, in slice px, maybe beyond the image; ``None``: nowhere."""

    bbox_xyxy_px: XYXY | None = None
    points_xy_px: tuple[XY, XY] | tuple[None, None] = (None, None)


def located(grounding: Grounding, case: Case) -> Located:
    """Box and key points of an answer on the image's pixels."""
    found = grounding_in_slice_px(grounding, case.shown.mapping)
    if found.bbox_xyxy_px is None:
        return Located()
    first, second = found.points_xy_px
    return Located(found.bbox_xyxy_px, (first, second))


def measured(
    case: Case, reply: Reply, reason_s: float, segmenter: Segmenter, measuring: Measuring
) -> Prediction:
    """The prediction of a reply.

    Raises:
        ServiceError: the segmenter cannot answer now.
        MissingExtraError: MONAI is not installed.
    """
    watch, row = Stopwatch(), case.row
    answered = reply.grounding if isinstance(reply, ReasonerAnswer) else None
    found = Located() if answered is None else located(answered, case)
    with watch.stage("segment"):
        values = _prompt_values(case, found)
        values |= _mask_values(case, answered, segmenter, measuring)
    return Prediction(
        id=row.id,
        question=row.question,
        category=row.category,
        super_category=row.super_category,
        modality=row.modality,
        patient=row.patient or case.shown.volume.key[:16],
        licence=row.licence,
        target_present=case.truth is not None,
        outcome=outcome_of(reply),
        fault=None if isinstance(reply, ReasonerAnswer) else type(reply).__name__,
        bbox=found.bbox_xyxy_px,
        point_1=found.points_xy_px[0],
        point_2=found.points_xy_px[1],
        completion=getattr(reply, "completion", None),  # a question not asked has none
        reason_s=reason_s,
        segment_s=watch.timings_s()["segment"],
        **values,
    )


def _prompt_values(case: Case, found: Located) -> dict[str, Any]:
    if case.truth is None:
        return {}
    box, (first, second) = found.bbox_xyxy_px, found.points_xy_px
    if box is None or first is None or second is None:
        return asdict(PromptScores())
    return asdict(prompt_scores(box, (first, second), case.truth))


def _mask_values(
    case: Case, answered: Grounding | None, segmenter: Segmenter, measuring: Measuring
) -> dict[str, Any]:
    if case.truth is None or case.mask is None:
        return {}
    sourced = None if answered is None else prompt_from_grounding(answered, (), case.shown.mapping)
    prompt = SlicePrompt(None) if sourced is None else sourced.prompt
    masks = Masks(case, segmenter)
    whole = masks.of(prompt, "both")
    values: dict[str, Any] = {} if whole is None else asdict(mask_scores(whole, case.mask))
    if measuring.parts:
        values |= {f"dice_{part}": masks.dice(prompt, part) for part in ("points", "box")}
    if measuring.true_prompts:
        values |= _ceiling(case, masks, measuring)
        if values.get("dice_true_points") is None:  # an answer without points would count 0
            values["dice_points"] = None
    return values


def _ceiling(case: Case, masks: Masks, measuring: Measuring) -> dict[str, Any]:
    """What the segmenter makes of the truth, for which the reasoner can do nothing."""
    assert case.truth is not None  # nosec B101 # for the type checker
    shape, box = case.shown.mapping.shape_hw, case.truth.bbox_xyxy_px
    true_prompt = prompt_on_image(box, case.truth.points_xy_px, shape)
    values = {"dice_true_prompts": masks.dice(true_prompt, "both")}
    if measuring.parts:
        jittered = jittered_box(box, shape, _seed(case))
        values |= {
            "dice_true_points": masks.dice(true_prompt, "points"),
            "dice_true_box": masks.dice(true_prompt, "box"),
            "dice_jittered_box": masks.dice(jittered, "box"),
        }
    return values


def _seed(case: Case) -> int:
    """The same for the same question, whatever is asked before it."""
    return zlib.crc32(f"{case.row.id}\0{case.row.question}".encode())


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks that a segmenter makes of a case."""

    case: Case
    segmenter: Segmenter

    def of(self, prompt: SlicePrompt, parts: Parts) -> NDArray[np.bool_] | None:
        """Mask, bool (H, W), from parts of a prompt: empty where they tell nothing of the target.

        ``None`` where the segmenter does not take points alone; for both it is then given the box.
        A box that it refuses makes an empty mask, as an answer that leads to none counts 0.
        """
        part, nothing = part_of(prompt, parts), np.zeros(self.case.shown.mapping.shape_hw, bool)
        if part is None:
            return nothing
        try:
            return self.segmenter.segment_slice(self.case.shown.image, part).mask
        except PromptError:
            if parts == "both":
                return self.of(prompt, "box")
            return nothing if parts == "box" else None

    def dice(self, prompt: SlicePrompt, parts: Parts) -> float | None:
        """Dice with the true mask; ``None`` where there is no mask to compare."""
        mask = self.of(prompt, parts)
        if mask is None or self.case.mask is None:
            return None
        return mask_dice(mask, self.case.mask) if mask.any() else MaskScores().dice
