# SPDX-License-Identifier: Apache-2.0
"""Box and key points of the targets of a labelled image.

All positions are *reasoner px*: pixels of the letterboxed square, edge based.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medreasoner_infer.keypoints import bbox_from_mask, key_points_from_mask

from ..phantom.anatomy import PARTS, Label
from ..queries import known_targets
from ..required import required

EMPTY = "The target is not on the image."
MIN_AREA_PX = 40
"""Smaller sections are neither asked for nor called absent."""


@dataclass(frozen=True)
class GroundTruth:
    """Box and key points of one target (integers, reasoner px) and its mask, bool (S, S)."""

    label: Label
    mask: np.ndarray
    bbox_xyxy_px: tuple[int, int, int, int]
    points_xy_px: tuple[tuple[int, int], tuple[int, int]]


def target_mask(labels: np.ndarray, label: Label) -> np.ndarray:
    """Mask of a target in a label map; a lesion belongs to its organ."""
    mask = labels == label
    for part in PARTS.get(label, ()):
        mask |= labels == part
    return mask


def key_points_px(mask: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """The two key points of a non-empty mask as the pixels that hold them, left one first.

    Left to right rather than larger disc first: the order then does not depend on small changes of
    the outline.
    """
    left, right = sorted((int(x), int(y)) for x, y in required(key_points_from_mask(mask), EMPTY))
    return left, right


def _integer_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (int(edge) for edge in required(bbox_from_mask(mask), EMPTY))
    return x0, y0, x1, y1


def ground_truth(labels: np.ndarray, label: Label) -> GroundTruth | None:
    """Box and key points of a target; ``None`` where its section is too small to ask for."""
    return truth_of_mask(target_mask(labels, label), label)


def truth_of_mask(mask: np.ndarray, label: Label) -> GroundTruth | None:
    """Box and key points of a mask; ``None`` where it is too small to ask for."""
    if int(mask.sum()) < MIN_AREA_PX:
        return None
    return GroundTruth(label, mask, _integer_box(mask), key_points_px(mask))


def visible_targets(labels: np.ndarray) -> dict[Label, GroundTruth]:
    """Every target whose section is large enough to ask for, in label order."""
    found = {label: ground_truth(labels, label) for label in known_targets()}
    return {label: truth for label, truth in found.items() if truth is not None}
