# SPDX-License-Identifier: Apache-2.0
"""What the segmenter is told: the reasoner's prompts or the true ones, whole or in part."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from medreasoner_infer.types import XY, XYXY, SlicePrompt

Parts = Literal["both", "points", "box"]
PARTS: tuple[Parts, ...] = get_args(Parts)

JITTER = 0.1
"""Each edge of a jittered box moves by up to this share of the box's side."""


def part_of(prompt: SlicePrompt, parts: Parts) -> SlicePrompt | None:
    """The box alone, the points alone or both; ``None`` where that tells nothing of the target."""
    box = None if parts == "points" else prompt.bbox_xyxy_px
    keeps_points = parts != "box"
    found = SlicePrompt(
        box,
        prompt.points_xy_px if keeps_points else (),
        prompt.point_labels if keeps_points else (),
    )
    return found if found.points_at_target else None


def prompt_on_image(
    bbox_xyxy_px: XYXY, points_xy_px: tuple[XY, XY], shape_hw: tuple[int, int]
) -> SlicePrompt:
    """A true box and key points as a prompt; what a data set tells beyond the image is cut off."""
    height, width = shape_hw
    x1, y1, x2, y2 = bbox_xyxy_px
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    points = tuple(
        (min(max(x, 0.0), float(width)), min(max(y, 0.0), float(height))) for x, y in points_xy_px
    )
    return SlicePrompt(box, points, (1,) * len(points))


def jittered_box(bbox_xyxy_px: XYXY, shape_hw: tuple[int, int], seed: int) -> SlicePrompt:
    """The box as a hand might draw it: each edge is off by up to :data:`JITTER` of its side."""
    x1, y1, x2, y2 = bbox_xyxy_px
    sides = np.array([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
    moved = np.array(bbox_xyxy_px) + np.random.default_rng(seed).uniform(-JITTER, JITTER, 4) * sides
    height, width = shape_hw
    left, top, right, bottom = np.clip(moved, 0, [width, height, width, height]).tolist()
    return SlicePrompt((left, top, right, bottom))
