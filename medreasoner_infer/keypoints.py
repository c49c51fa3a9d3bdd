# SPDX-License-Identifier: Apache-2.0
"""Prompts from a mask: its box, and two key points inside it.

The two key points are the centres of the two largest inscribed discs, the second one found after
the first disc has been removed from the mask (the derivation of Seg-Zero, arXiv 2503.06520, which
U-MRG follows).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.types import XY, XYXY


def bbox_from_mask(mask: NDArray[np.bool_]) -> XYXY | None:
    """Return the tight axis-aligned box of a mask, or ``None`` if the mask is empty.

    Args:
        mask: bool array of shape (H, W).

    Returns:
        ``(x1, y1, x2, y2)`` in edge-based px: a mask of the single pixel (column 3, row 5) has
        the box ``(3, 5, 4, 6)``.
    """
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def key_points_from_mask(
    mask: NDArray[np.bool_], spacing_xy_mm: XY = (1.0, 1.0)
) -> tuple[XY, XY] | None:
    """Return the centres of the two largest inscribed discs, or ``None`` if the mask is empty.

    Discs are round in millimetres and end at the image border. A mask of which nothing is left
    without its first disc has both key points in the same place.

    Args:
        mask: bool array of shape (H, W).
        spacing_xy_mm: size of a pixel along x and y.

    Returns:
        Two pixel centres ``(x, y)`` in edge-based px, larger disc first.
    """
    box = bbox_from_mask(mask)
    if box is None:
        return None
    x1, y1, x2, y2 = (int(edge) for edge in box)
    patch = np.pad(np.asarray(mask[y1:y2, x1:x2], bool), 1)
    sampling = (spacing_xy_mm[1], spacing_xy_mm[0])
    first, radius = _largest_inscribed_disc(patch, sampling)
    rows, columns = np.ogrid[: patch.shape[0], : patch.shape[1]]
    distance = np.hypot((rows - first[0]) * sampling[0], (columns - first[1]) * sampling[1])
    rest = patch & (distance > radius)
    second = _largest_inscribed_disc(rest, sampling)[0] if rest.any() else first
    to_px = np.array([y1, x1]) - 1 + 0.5  # undo the crop and the padding; centre of the pixel
    (fy, fx), (sy, sx) = np.array(first) + to_px, np.array(second) + to_px
    return (float(fx), float(fy)), (float(sx), float(sy))


def _largest_inscribed_disc(
    mask: NDArray[np.bool_], sampling: tuple[float, float]
) -> tuple[tuple[int, int], float]:
    """Centre (row, column) and radius in mm of the largest disc inside a padded mask."""
    from scipy.ndimage import distance_transform_edt

    distance = distance_transform_edt(mask, sampling=sampling)
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return (int(row), int(column)), float(distance[row, column])
