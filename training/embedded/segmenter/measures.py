# SPDX-License-Identifier: Apache-2.0
"""The prompt that a true mask makes, and what the prompt alone gives away of the mask."""

from __future__ import annotations

import numpy as np

from medreasoner_infer.keypoints import bbox_from_mask, key_points_from_mask
from medreasoner_infer.types import XY, SlicePrompt
from medreasoner_training.embedded.required import required

NO_BOX = "The prompt has no box."
EMPTY = "An empty mask has no prompt."


def true_prompt(mask: np.ndarray, spacing_xy_mm: XY) -> SlicePrompt:
    """Box and two key points of a true mask, bool (H, W).

    Raises:
        ValueError: if it is empty.
    """
    box, points = bbox_from_mask(mask), key_points_from_mask(mask, spacing_xy_mm)
    return SlicePrompt(required(box, EMPTY), required(points, EMPTY), (1, 1))


def inscribed_ellipse(prompt: SlicePrompt, shape_hw: tuple[int, ...]) -> np.ndarray:
    """The ellipse that touches the prompt's box on all sides: what a box alone gives away."""
    x1, y1, x2, y2 = required(prompt.bbox_xyxy_px, NO_BOX)
    y, x = np.mgrid[: shape_hw[0], : shape_hw[1]] + 0.5
    u, v = (2 * x - x1 - x2) / (x2 - x1), (2 * y - y1 - y2) / (y2 - y1)
    return u**2 + v**2 <= 1


def filled_box(prompt: SlicePrompt, shape_hw: tuple[int, ...]) -> np.ndarray:
    """All pixels of the prompt's box."""
    x1, y1, x2, y2 = (int(edge) for edge in required(prompt.bbox_xyxy_px, NO_BOX))
    mask = np.zeros(shape_hw, bool)
    mask[y1:y2, x1:x2] = True
    return mask
