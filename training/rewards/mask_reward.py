# SPDX-License-Identifier: Apache-2.0
"""Reward of the mask that a frozen segmenter makes from the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.types import SlicePrompt
from medreasoner_training.rewards.errors import RewardConfigError
from medreasoner_training.rewards.overlap import dice
from medreasoner_training.rewards.reading import read_completion
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
    weight: float = 1.0,
) -> RewardFunction:
    """Make the reward function ``mask_dice``: Dice of the segmenter's mask with the true one.

    No gradient reaches the reasoner through the segmenter, so this is a reward and not a loss. An
    empty true mask is an absent target: 1 for ``<answer>null</answer>``, else 0. An answer without
    a usable box and two usable points scores 0, and the segmenter is not called. A row whose mask
    is ``None`` is not scored.

    Args:
        segment: called as ``segment(image, prompt)`` with the row's image and the answer's box and
            two positive points, in the pixels that the answer uses (reasoner px). It maps them if
            the image has others, and returns the mask, bool of shape (H, W), on the true mask's
            grid.
        image_column: column of images, each an image or a list of one as in U-MRG.
        mask_column: column of true masks, likewise; (H, W) or (H, W, channels), 0 is background.
        weight: factor of the value.
    """

    def mask_dice(completions: Sequence[Completion], **columns: object) -> list[float | None]:
        images = take_column(columns, image_column)
        masks = take_column(columns, mask_column)
        return [
            None if mask is None else weight * _score_mask(segment, completion, image, mask)
            for completion, image, mask in zip(completions, images, masks, strict=True)
        ]

    return mask_dice


def _score_mask(segment: Segment, completion: Completion, image: object, mask: object) -> float:
    true_mask = _to_bool(_only_item(mask))
    reading = read_completion(completion_text(completion))
    if not true_mask.any():
        return float(reading.says_absent)
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
