# SPDX-License-Identifier: Apache-2.0
"""Sizes of a mask in the patient, as a report states them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medreasoner_infer.imaging import SliceMapping, Volume, slice_values
from medreasoner_infer.records import summarise_mask


@dataclass(frozen=True)
class MaskSizes:
    """Sizes of a mask; ``None`` where the image does not tell millimetres, or nothing is there.

    ``volume_mm3`` is that of all voxels; the others are those of the displayed slice. The long
    axis is the greatest distance of two points of the outline (maximum Feret diameter), the short
    axis the extent at right angles to it.
    """

    volume_mm3: float | None
    area_mm2: float | None
    long_axis_mm: float | None
    short_axis_mm: float | None


def measure(mask_ijk: np.ndarray, volume: Volume, mapping: SliceMapping) -> MaskSizes:
    """Measure a mask (I, J, K) on the grid of ``volume``; the outline runs along pixel edges."""
    if not volume.spacing_known or not mask_ijk.any():
        return MaskSizes(None, None, None, None)
    summary = summarise_mask(mask_ijk, mapping, None)
    on_slice = slice_values(Volume(mask_ijk, volume.ijk_to_lps, "OT", "", volume.source), mapping)
    if not on_slice.any():
        return MaskSizes(summary.volume_mm3, None, None, None)
    axes_mm = _feret_mm(mapping.slice_px_to_lps(_corners(on_slice)))
    return MaskSizes(summary.volume_mm3, summary.slice_area_mm2, *axes_mm)


def _corners(mask_hw: np.ndarray) -> np.ndarray:
    """Corners (N, 2) in slice px of the convex hull of a mask's pixels."""
    from scipy.spatial import ConvexHull

    rows, columns = np.nonzero(mask_hw)
    pixels = np.stack((columns, rows), axis=-1)
    corners = np.concatenate([pixels + offset for offset in ((0, 0), (1, 0), (0, 1), (1, 1))])
    return corners[ConvexHull(corners).vertices].astype(np.float64)


def _feret_mm(points_lps_mm: np.ndarray) -> tuple[float, float]:
    """Maximum Feret diameter of coplanar points (N, 3), and the extent across it."""
    between = points_lps_mm[:, np.newaxis] - points_lps_mm[np.newaxis]
    distances = np.linalg.norm(between, axis=-1)
    start, end = np.unravel_index(int(distances.argmax()), distances.shape)
    along = between[end, start] / distances[end, start]
    across = points_lps_mm - points_lps_mm[start]
    across = across - np.outer(across @ along, along)
    direction = across[int(np.linalg.norm(across, axis=1).argmax())]
    offsets = across @ (direction / np.linalg.norm(direction))
    return float(distances.max()), float(offsets.max() - offsets.min())
