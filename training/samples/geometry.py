# SPDX-License-Identifier: Apache-2.0
"""Box, key points and mask of a target in reasoner px."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medreasoner_infer.imaging import SliceMapping
from medreasoner_infer.keypoints import bbox_from_mask, key_points_from_mask
from medreasoner_infer.types import XYXY
from medreasoner_training.samples.cases import Components


@dataclass(frozen=True)
class Truth:
    """Box and key points in whole reasoner px, as models decode integers.

    Box edges are rounded to the nearest edge between pixels; a point is the pixel that holds it.
    """

    bbox_xyxy_px: tuple[int, int, int, int]
    points_xy_px: tuple[tuple[int, int], tuple[int, int]]


def truth_on_slice(mask_hw: NDArray[np.bool_], mapping: SliceMapping) -> Truth | None:
    """Box and key points of a section, bool (H, W) in slice px; ``None`` where it is empty.

    Discs are round in millimetres, see :func:`medreasoner_infer.keypoints.key_points_from_mask`.
    """
    box = bbox_from_mask(mask_hw)
    points = key_points_from_mask(mask_hw, mapping.spacing_xy_mm)
    if box is None or points is None:
        return None
    return truth_in_reasoner_px(box, points, mapping)


def truth_in_reasoner_px(
    bbox_xyxy_px: XYXY, points_xy_px: ArrayLike, mapping: SliceMapping
) -> Truth:
    """Box and two key points that are told in slice px."""
    box = mapping.slice_box_to_reasoner_px(bbox_xyxy_px)
    return _whole_px(box, mapping.slice_px_to_reasoner_px(points_xy_px))


def truth_on_square(mask: NDArray[np.bool_]) -> Truth | None:
    """Box and key points of a mask, bool (H, W), in whole pixels of it, e.g. reasoner px."""
    box, points = bbox_from_mask(mask), key_points_from_mask(mask)
    return None if box is None or points is None else _whole_px(box, np.array(points))


def mask_on_square(mask_hw: NDArray[np.bool_], mapping: SliceMapping) -> NDArray[np.bool_]:
    """A section, bool (H, W) in slice px, on the letterboxed square, bool (S, S).

    A reasoner pixel belongs to the target if its centre lies in a slice pixel that does.
    """
    width, height = mapping.reasoner_content_wh_px
    left, top = mapping.reasoner_padding_xy_px
    scale_x, scale_y = mapping.reasoner_px_per_slice_px
    columns = ((np.arange(width) + 0.5) / scale_x).astype(int)
    rows = ((np.arange(height) + 0.5) / scale_y).astype(int)
    square = np.zeros((mapping.model_size, mapping.model_size), bool)
    square[top : top + height, left : left + width] = mask_hw[np.ix_(rows, columns)]
    return square


def chosen_components(mask_hw: NDArray[np.bool_], components: Components) -> NDArray[np.bool_]:
    """The parts of a section that count, bool (H, W); see :class:`Components`."""
    if components is Components.ALL:
        return mask_hw
    from scipy import ndimage

    parts, count = ndimage.label(mask_hw, structure=np.ones((3, 3)))
    if count < 2:
        return mask_hw
    largest: NDArray[np.bool_] = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return largest


def _whole_px(box: tuple[float, ...], points: NDArray[np.float64]) -> Truth:
    # Halves go down, so that the box is that of mask_on_square.
    x1, y1, x2, y2 = (math.ceil(edge - 0.5) for edge in box)
    first, second = ((math.floor(x), math.floor(y)) for x, y in points)
    return Truth((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)), (first, second))
