# SPDX-License-Identifier: Apache-2.0
"""A closed curve that the reader has drawn around what a correction takes away or adds."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ViewerError
from .geometry import Grid, ras_lps

# Fewer than a server takes, more than a slice shows.
_MOST_POINTS = 256
_SCAN_LINES = 9
_ONE_SLICE_VOXELS = 1.0


def point_of_lasso(
    curve_ras_mm: np.ndarray, *, inside: bool, plane: str, grid: Grid
) -> dict[str, Any]:
    """A new point of ``streams/segment`` that stands for all within a curve.

    Args:
        curve_ras_mm: places along the closed curve (N, 3).
        inside: whether all within it is the target, or none of it.
        plane: of the slice that it was drawn on.
        grid: of the volume.

    Raises:
        ViewerError: the curve lies on several slices, or holds nothing.
    """
    contour_ijk = grid.to_ijk(ras_lps(np.reshape(curve_ras_mm, (-1, 3))))
    contour_ijk = contour_ijk[:: max(1, -(-len(contour_ijk) // _MOST_POINTS))]
    cut = grid.cut_axis(plane)
    depths = contour_ijk[:, cut]
    if len(depths) and np.ptp(depths) > _ONE_SLICE_VOXELS:
        raise ViewerError(f"The lasso lies on several {plane} slices; draw it on one of them.")
    across = [axis for axis in range(3) if axis != cut]
    place = _place_within(contour_ijk[:, across])
    if place is None:
        raise ViewerError("The lasso holds nothing; draw it around what is meant.")
    contour_ijk[:, cut] = np.round(depths.mean())
    position_ijk = contour_ijk[0].copy()
    position_ijk[across] = place
    return {
        "position": grid.to_lps(position_ijk).tolist(),
        "inside": inside,
        "by": "reader",
        "new": True,
        "contour": grid.to_lps(contour_ijk).tolist(),
    }


def _place_within(contour: np.ndarray) -> np.ndarray | None:
    """The middle of the widest piece that lines across a contour (N, 2) have in it."""
    if len(contour) < 3:
        return None
    low, high = contour[:, 1].min(), contour[:, 1].max()
    pieces = []
    for line in range(_SCAN_LINES):
        y = low + (high - low) * (line + 0.5) / _SCAN_LINES
        edges = _crossings(contour, y)
        pieces += [(right - left, (left + right) / 2, y) for left, right in edges]
    width, x, y = max(pieces, default=(0.0, 0.0, 0.0))
    return np.array([x, y]) if width > 0 else None


def _crossings(contour: np.ndarray, y: float) -> list[tuple[float, float]]:
    """The pieces, from and to, that a line at height ``y`` has within the contour."""
    (x1, y1), (x2, y2) = contour.T, np.roll(contour, -1, axis=0).T
    crosses = (y1 > y) != (y2 > y)
    share = (y - y1[crosses]) / (y2 - y1)[crosses]
    xs = np.sort(x1[crosses] + share * (x2 - x1)[crosses])
    return list(zip(xs[::2].tolist(), xs[1::2].tolist()))
