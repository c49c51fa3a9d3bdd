# SPDX-License-Identifier: Apache-2.0
"""Outlines of a mask's parts on a slice, along the edges of its pixels."""

from __future__ import annotations

import numpy as np

# Columns and rows, clockwise as an image is shown.
_DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
# Graphic Data is FL, whose values fill 65,534 bytes at most in Explicit VR (PS3.5, 7.1.2).
MOST_VERTICES = 65_534 // 8


def outlines(mask_ij: np.ndarray) -> list[np.ndarray]:
    """The outer outline of each part of a mask, the largest part first.

    Parts are connected by the sides of pixels; their holes are not told.

    Args:
        mask_ij: mask (I, J), non-zero inside.

    Returns:
        Vertices (N, 2) of closed polygons, columns and rows with 0.0 at the outer corner of the
        first pixel; at most :data:`MOST_VERTICES` each.
    """
    from scipy import ndimage

    parts, _ = ndimage.label(mask_ij)
    sizes = np.bincount(parts.ravel())
    boxes = ndimage.find_objects(parts)
    order = sorted(range(1, len(sizes)), key=lambda part: -int(sizes[part]))
    return [_outline(parts[boxes[p - 1]] == p, [s.start for s in boxes[p - 1]]) for p in order]


def _outline(part_ij: np.ndarray, corner_ij: list[int]) -> np.ndarray:
    corners = np.array(_walk_around(np.pad(part_ij, 1)), dtype=np.float64) - 1 + corner_ij
    step = -(-len(corners) // (MOST_VERTICES - 1))
    kept = corners[::step]
    return np.concatenate([kept, kept[:1]])


def _walk_around(part_ij: np.ndarray) -> list[tuple[int, int]]:
    """Corners where the boundary turns, with the part to the right of who walks along it."""
    row = int(np.nonzero(part_ij.any(axis=0))[0][0])
    start = x, y = int(np.nonzero(part_ij[:, row])[0][0]), row
    heading = 0
    corners = [start]
    while True:
        dx, dy = _DIRECTIONS[heading]
        x, y = x + dx, y + dy
        if (x, y) == start:
            return corners
        # Of the four pixels at this corner the two ahead.
        left = part_ij[x + (dx - 1 + dy) // 2, y + (dy - 1 - dx) // 2]
        right = part_ij[x + (dx - 1 - dy) // 2, y + (dy - 1 + dx) // 2]
        turn = 1 if not right else (-1 if left else 0)
        if turn:
            heading = (heading + turn) % 4
            corners.append((x, y))
