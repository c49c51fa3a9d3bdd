# SPDX-License-Identifier: Apache-2.0
"""Diameters of a mask on one slice, with the points between which they run.

The outline of a mask runs along the edges of its pixels. Its *longest diameter* is the greatest
distance of two points of the outline (maximum Feret diameter), which is what RECIST 1.1 sums up of
a target lesion (Eisenhauer et al., Eur J Cancer 2009;45:228-247, section 3.2). RECIST 1.1 does not
say how the diameter across is drawn; WHO (1979) and the radiologists' reading of RECIST (Schwartz
et al., Eur J Cancer 2009;45:261-267) take the greatest diameter at right angles to the longest one.
A caliper that is drawn lies on the target, so the *perpendicular diameter* here is the longest
straight line at right angles to the longest diameter that does not leave the mask. The *extent*
across the longest diameter, from one outermost point to the other, is a width of the whole outline
and no line on the target; it is never smaller.

``steps`` (2, D) holds how far one slice px leads along x and along y: in mm of the patient (D = 3),
or the unit matrix for lengths in px.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

# Of the mask's extent: how far beside a corner of the outline a line is laid.
_BESIDE = 1e-9
# Of a length: what rounding makes of equal ones.
_SAME = 1e-9


def hull_corners(mask_hw: NDArray[np.bool_]) -> Points:
    """Corners (N, 2) in slice px (edge based) of the convex hull of a mask's pixels.

    Args:
        mask_hw: (H, W), with a pixel at least.
    """
    from scipy.spatial import ConvexHull

    rows = np.flatnonzero(mask_hw.any(axis=1))
    filled = mask_hw[rows]
    first = filled.argmax(axis=1)
    behind = filled.shape[1] - filled[:, ::-1].argmax(axis=1)
    ends = np.concatenate([np.stack((x, rows), axis=-1) for x in (first, behind)])
    corners = np.concatenate([ends, ends + np.array((0, 1))])
    return np.asarray(corners[ConvexHull(corners).vertices], dtype=np.float64)


def farthest_two(points: Points) -> tuple[int, int]:
    """Which two of the points (N, D) lie farthest apart, N at least 2."""
    distances = np.linalg.norm(points[:, np.newaxis] - points[np.newaxis], axis=-1)
    start, end = np.unravel_index(int(distances.argmax()), distances.shape)
    return int(start), int(end)


def extent_across(points: Points, start: int, end: int) -> float:
    """How far coplanar points (N, 3) reach at right angles to the line between two of them."""
    along = points[end] - points[start]
    along = along / np.linalg.norm(along)
    across = points - points[start]
    across = across - np.outer(across @ along, along)
    direction = across[int(np.linalg.norm(across, axis=1).argmax())]
    offsets = across @ (direction / np.linalg.norm(direction))
    return float(offsets.max() - offsets.min())


def both_diameters(mask_hw: NDArray[np.bool_], steps: Points) -> tuple[Points, Points]:
    """The longest diameter and the perpendicular one, each by its two ends (2, 2) in slice px.

    Of several that are equally long, the one with the longest line across it.

    Args:
        mask_hw: (H, W), with a pixel at least.
        steps: as the module says.
    """
    found = [
        (longest, perpendicular_diameter(mask_hw, longest, steps))
        for longest in _longest_diameters(hull_corners(mask_hw), steps)
    ]
    return max(found, key=lambda pair: float(np.linalg.norm((pair[1][1] - pair[1][0]) @ steps)))


def _longest_diameters(corners_px: Points, steps: Points) -> list[Points]:
    """All pairs of corners that lie farthest apart."""
    points = corners_px @ steps
    distances = np.linalg.norm(points[:, np.newaxis] - points[np.newaxis], axis=-1)
    starts, ends = np.nonzero(np.triu(distances) >= distances.max() * (1 - _SAME))
    return [corners_px[[start, end]] for start, end in zip(starts, ends, strict=True)]


def perpendicular_diameter(mask_hw: NDArray[np.bool_], longest_px: Points, steps: Points) -> Points:
    """The ends (2, 2), in slice px, of the longest line within the mask across ``longest_px``.

    Between two neighbouring corners of the outline the length of a line changes evenly, so that
    the longest one lies right beside a corner.
    """
    to_frame = _frame(longest_px, steps)
    starts, ends = (edges @ to_frame for edges in _outline_edges(mask_hw))
    slanted = starts[:, 0] != ends[:, 0]
    starts, ends = starts[slanted], ends[slanted]
    at_corners = np.unique(np.concatenate([starts[:, 0], ends[:, 0]]))
    beside = _BESIDE * float(np.ptp(at_corners))
    best, line = -1.0, np.zeros((2, 2))
    for place in np.concatenate([at_corners - beside, at_corners + beside]):
        crossed = (starts[:, 0] < place) != (ends[:, 0] < place)
        if not crossed.any():
            continue
        low, high = _longest_within(starts[crossed], ends[crossed], float(place))
        if high - low > best * (1 + 1e-12):
            best, line = high - low, np.array([(place, low), (place, high)])
    return np.asarray(line @ np.linalg.inv(to_frame))


def _frame(longest_px: Points, steps: Points) -> Points:
    """(2, 2): slice px to lengths along a line and at right angles to it, in the slice's plane."""
    along = (longest_px[1] - longest_px[0]) @ steps
    along = along / np.linalg.norm(along)
    across = steps - np.outer(steps @ along, along)
    widest = across[int(np.linalg.norm(across, axis=1).argmax())]
    return np.stack([steps @ along, steps @ (widest / np.linalg.norm(widest))], axis=-1)


def _outline_edges(mask_hw: NDArray[np.bool_]) -> tuple[Points, Points]:
    """Where edges between a pixel of the mask and one outside begin and end, (N, 2) slice px."""
    padded = np.pad(mask_hw, 1)
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    level = np.stack((x, y), axis=-1)
    row, column = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    upright = np.stack((column, row), axis=-1)
    starts = np.concatenate([level, upright]).astype(np.float64)
    return starts, np.concatenate([level + np.array((1, 0)), upright + np.array((0, 1))]).astype(
        np.float64
    )


def _longest_within(starts: Points, ends: Points, place: float) -> tuple[float, float]:
    """Of the line through ``place`` the longest piece that is inside all its crossed edges."""
    share = (place - starts[:, 0]) / (ends[:, 0] - starts[:, 0])
    crossings = np.sort(starts[:, 1] + share * (ends[:, 1] - starts[:, 1]))
    entered, left = crossings[::2], crossings[1::2]
    longest = int((left - entered).argmax())
    return float(entered[longest]), float(left[longest])
