# SPDX-License-Identifier: Apache-2.0
"""Parts of a mask that lie apart from the target and that the model is not sure of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medreasoner_infer.types import SlicePrompt

_TOUCHING = np.ones((3, 3), int)


def without_islands(
    logits: NDArray[np.float32], prompt: SlicePrompt, min_logit_ratio: float
) -> NDArray[np.bool_]:
    """Threshold logits, leaving out unsure parts that no point of the prompt lies in.

    Parts touch by edges or corners. The target is the parts that hold a positive point, or the
    largest one where none does. Other parts stay if their mean logit is at least
    ``min_logit_ratio`` times the target's: a target may show as several parts.

    Args:
        logits: (H, W) of the slice, positive inside.
        prompt: points in slice px (edge based).
        min_logit_ratio: 0 keeps all parts.

    Returns:
        bool (H, W).
    """
    mask = logits > 0
    parts, count = ndimage.label(mask, _TOUCHING)
    if count < 2:
        return mask
    numbers = np.arange(1, count + 1)
    means = ndimage.mean(logits, parts, numbers)
    target = _pointed(parts, prompt) or {int(np.bincount(parts[mask]).argmax())}
    sure = min_logit_ratio * np.mean([means[number - 1] for number in target])
    kept = target | set(numbers[means >= sure].tolist())
    return np.isin(parts, list(kept))


def _pointed(parts: NDArray[np.int32], prompt: SlicePrompt) -> set[int]:
    """Numbers of the parts that hold a positive point."""
    height, width = parts.shape
    inside = (
        parts[min(int(y), height - 1), min(int(x), width - 1)]
        for (x, y), label in zip(prompt.points_xy_px, prompt.point_labels, strict=True)
        if label == 1
    )
    return {int(number) for number in inside if number}
