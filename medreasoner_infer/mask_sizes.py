# SPDX-License-Identifier: Apache-2.0
"""Sizes of a mask in the patient, as a report states them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from medreasoner_infer.imaging import SliceMapping, Volume, slice_of_mask
from medreasoner_infer.measuring.measured import feret_sizes
from medreasoner_infer.records import summarise_mask


@dataclass(frozen=True)
class MaskSizes:
    """Sizes of a mask; ``None`` where the image does not tell millimetres, or nothing is there.

    ``volume_mm3`` is that of all voxels; the others are those of the displayed slice. The long
    axis is the greatest distance of two points of the outline (maximum Feret diameter), the short
    axis the extent of the whole outline at right angles to it.
    """

    volume_mm3: float | None
    area_mm2: float | None
    long_axis_mm: float | None
    short_axis_mm: float | None


def measure(mask_ijk: NDArray[Any], volume: Volume, mapping: SliceMapping) -> MaskSizes:
    """Measure a mask (I, J, K) on the grid of ``volume``; the outline runs along pixel edges."""
    if not volume.spacing_known or not mask_ijk.any():
        return MaskSizes(None, None, None, None)
    summary = summarise_mask(mask_ijk, mapping, None)
    on_slice = slice_of_mask(mask_ijk, mapping)
    if not on_slice.any():
        return MaskSizes(summary.volume_mm3, None, None, None)
    axes = feret_sizes(on_slice, mapping)
    return MaskSizes(
        summary.volume_mm3, summary.slice_area_mm2, axes.long_axis_mm, axes.short_axis_mm
    )
