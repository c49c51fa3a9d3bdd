# SPDX-License-Identifier: Apache-2.0
"""Reward of the mask that a frozen segmenter makes from the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.types import Outcome, SlicePrompt
from medreasoner_training.rewards.config import OPERATING_IOU, check_operating_iou
from medreasoner_training.rewards.errors import RewardConfigError
from medreasoner_training.rewards.ground_truth import read_truth
from medreasoner_training.rewards.overlap import dice
from medreasoner_training.rewards.reading import Reading, read_completion
from medreasoner_training.rewards.trl_functions import (
    Completion,
    RewardFunction,
    completion_text,
    take_column,
)

Segment = Callable[[object, SlicePrompt], NDArray[np.bool_]]


def mask_dice_reward(
    segment: Segment,
    *,
    image_column: str = "images",
    mask_column: str = "masks",
    ground_truth_column: str | None = None,
    operating_iou: float = OPERATING_IOU,
    weight: float = 1.0,
) -> RewardFunction:
    """Make the reward function ``mask_dice``: Dice of the segmenter's mask with the true one.

    No gradient reaches the reasoner through the segmenter, so this is a reward and not a loss. An
    empty true mask is an absent target, or a question that is not to be understood where the ground
    truth says so: the right one of the two answers without a box earns ``operating_iou`` (Dice is
    never below IoU; see :mod:`~medreasoner_training.rewards.operating_point`), any other 0. An
    answer without a usable box and two usable points scores 0, and the segmenter is not called. A
    row is not scored if its mask is ``None``, or empty although its ground truth has a target.

    Args:
        segment: called as ``segment(image, prompt)`` with the row's image and the answer's box and
            two positive points, in the pixels that the answer uses (reasoner px). It maps them if
            the image has others, and returns the mask, bool of shape (H, W), on the true mask's
            grid.
        image_column: column of images, each an image or a list of one as in U-MRG.
        mask_column: column of true masks, likewise; (H, W) or (H, W, channels), 0 is background.
        ground_truth_column: column that :func:`~medreasoner_training.rewards.read_truth` reads;
            ``None`` where every empty mask is an absent target.
        operating_iou: above 0, at most 1.
        weight: factor of the value.
    """
    check_operating_iou(operating_iou)

    def mask_dice(completions: Sequence[Completion], **columns: object) -> list[float | None]:
        images = take_column(columns, image_column)
        masks = take_column(columns, mask_column)
        truths: Sequence[Any] = [None] * len(completions)
        if ground_truth_column is not None:
            truths = take_column(columns, ground_truth_column)
        values: list[float | None] = []
        for completion, image, mask, truth in zip(completions, images, masks, truths, strict=True):
            reading = read_completion(completion_text(completion))
            if mask is None:
                values.append(None)
                continue
            true_mask = _to_bool(_only_item(mask))
            if true_mask.any():
                value: float | None = _dice_of_answer(segment, reading, image, true_mask)
            else:
                value = _without_mask(reading, read_truth(truth).outcome, operating_iou)
            values.append(None if value is None else weight * value)
        return values

    return mask_dice


def _without_mask(reading: Reading, outcome: Outcome, operating_iou: float) -> float | None:
    if outcome == "present":
        return None
    right = reading.says_absent if outcome == "absent" else reading.says_not_understood
    return operating_iou * right


def _dice_of_answer(
    segment: Segment, reading: Reading, image: object, true_mask: NDArray[np.bool_]
) -> float:
    box, points = reading.bbox_xyxy_px, reading.points_xy_px
    if box is None or points is None:
        return 0.0
    predicted = np.asarray(segment(_only_item(image), SlicePrompt(box, points, (1, 1))), bool)
    if predicted.shape != true_mask.shape:
        raise RewardConfigError(
            f"The segmenter returned a mask of shape {predicted.shape}; expected the true mask's "
            f"shape {true_mask.shape}."
        )
    return dice(predicted, true_mask)


def _only_item(value: object) -> object:
    """The item of a list of one, as U-MRG stores images and masks; anything else as it is."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _to_bool(mask: object) -> NDArray[np.bool_]:
    array = np.asarray(mask) > 0
    return array.any(axis=-1) if array.ndim == 3 else array
