# SPDX-License-Identifier: Apache-2.0
"""Prompts as a reader or a reasoner would give them, drawn from a target's mask."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from medreasoner_infer.keypoints import bbox_from_mask, key_points_from_mask
from medreasoner_training.embedded.required import required
from medreasoner_training.embedded.segmenter.measures import EMPTY

#: SAM's labels of sparse prompts; a box is given as its two corners.
NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = 0, 1, 2, 3


class PromptKind(Enum):
    """Which prompts a training batch gets; the same for all its crops, so that none is padded."""

    BOX_AND_POINTS = "box and two points"
    BOX = "box"
    TWO_POINTS = "two points"
    ONE_POINT = "one point"
    BOX_AND_CLICKS = "box, two points and a click outside or inside"
    NEIGHBOUR = "mask, box and two points of the neighbouring slice"


KIND_PROBABILITIES = {
    PromptKind.BOX_AND_POINTS: 0.47,
    PromptKind.BOX: 0.1,
    PromptKind.TWO_POINTS: 0.07,
    PromptKind.ONE_POINT: 0.04,
    PromptKind.BOX_AND_CLICKS: 0.1,
    PromptKind.NEIGHBOUR: 0.22,
}


def sample_kind(rng: np.random.Generator) -> PromptKind:
    """Draw the prompt kind of a batch."""
    kinds = list(KIND_PROBABILITIES)
    return kinds[rng.choice(len(kinds), p=list(KIND_PROBABILITIES.values()))]


@dataclass(frozen=True)
class SparsePrompt:
    """Coordinates float32 (P, 2), edge-based px of the crop, and SAM labels int32 (P,)."""

    coordinates_xy_px: np.ndarray
    labels: np.ndarray


def sample_prompt(rng: np.random.Generator, mask: np.ndarray, kind: PromptKind) -> SparsePrompt:
    """Draw a prompt of this kind for a non-empty mask.

    Args:
        rng: source of randomness.
        mask: bool (S, S), the target (of the neighbouring slice, if that is the kind).
        kind: which prompts to draw.
    """
    corners = jittered_box(rng, mask, exact=kind is PromptKind.NEIGHBOUR)
    points = inside_points(rng, mask)
    if kind is PromptKind.BOX:
        return SparsePrompt(corners, np.array([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], np.int32))
    if kind is PromptKind.TWO_POINTS:
        return SparsePrompt(points, np.array([POSITIVE, POSITIVE], np.int32))
    if kind is PromptKind.ONE_POINT:
        return SparsePrompt(points[:1], np.array([POSITIVE], np.int32))
    coordinates = np.concatenate([corners, points])
    labels = [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, POSITIVE, POSITIVE]
    if kind is PromptKind.BOX_AND_CLICKS:
        click, label = _extra_click(rng, mask)
        coordinates, labels = np.concatenate([coordinates, click[None]]), [*labels, label]
    return SparsePrompt(coordinates, np.array(labels, np.int32))


def jittered_box(rng: np.random.Generator, mask: np.ndarray, exact: bool) -> np.ndarray:
    """The mask's box as corners float32 (2, 2), shaken unless it is to be exact."""
    box = np.array(bbox_from_mask(mask)).reshape(2, 2)
    if not exact:
        side = float((box[1] - box[0]).max())
        spread = rng.choice([0.004, 0.03, 0.07], p=[0.65, 0.2, 0.15])
        box = box + rng.normal(0, side * spread, (2, 2))
    return box.astype(np.float32)


def inside_points(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Two points float32 (2, 2): shaken key points, or sometimes any two points inside."""
    if rng.random() < 0.85:
        coarse = mask[::2, ::2]
        key_points = key_points_from_mask(coarse if coarse.any() else mask)
        scale = 2 if coarse.any() else 1
        return (np.array(key_points) * scale + rng.normal(0, 1.2, (2, 2))).astype(np.float32)
    return np.stack([random_pixel(rng, mask), random_pixel(rng, mask)])


def random_pixel(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """The centre of a random pixel of a non-empty mask, float32 (x, y)."""
    row, column = divmod(int(rng.choice(np.flatnonzero(mask))), mask.shape[1])
    return np.array([column + 0.5, row + 0.5], np.float32)


def _extra_click(rng: np.random.Generator, mask: np.ndarray) -> tuple[np.ndarray, int]:
    if rng.random() < 0.3:
        return random_pixel(rng, mask), POSITIVE
    x1, y1, x2, y2 = (int(edge) for edge in required(bbox_from_mask(mask), EMPTY))
    margin = 6
    window = np.zeros_like(mask)
    window[max(0, y1 - margin) : y2 + margin, max(0, x1 - margin) : x2 + margin] = True
    outside = window & ~mask
    return random_pixel(rng, outside if outside.any() else ~mask), NEGATIVE


def correction_click(
    rng: np.random.Generator, predicted: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, int]:
    """A click in the middle of the largest mistake: positive on a miss, negative on a leak."""
    wrong = predicted != target
    if not wrong.any():
        return random_pixel(rng, target), POSITIVE
    click = _middle_of_largest_part(wrong)
    inside = target[int(click[1]), int(click[0])]
    return click, POSITIVE if inside else NEGATIVE


def _middle_of_largest_part(mask: np.ndarray) -> np.ndarray:
    """Centre of a non-empty mask's largest inscribed disc, found at half resolution."""
    coarse = mask[::2, ::2]
    if not coarse.any():
        row, column = np.argwhere(mask)[0]
        return np.array([column + 0.5, row + 0.5], np.float32)
    (x, y), _ = required(key_points_from_mask(coarse), EMPTY)
    return np.array([2 * x - 0.5, 2 * y - 0.5], np.float32)
