# SPDX-License-Identifier: Apache-2.0
"""Sizes of a target in one examination, each with its uncertainty.

Of the voxels: every voxel of the surface may be half outside, or half a voxel more belong to the
target, and a diameter may be wrong by half a pixel at each end. Of samples: the boxes of several
answers to the same question scatter about their mean; a diameter is taken to scatter as the square
root of the box's area does, a volume as its cube. Of a second look: what the segmenter makes of
the box that the mask of the other examination has here (:mod:`.second_look`) differs from the mask
by so much. The largest of these counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medreasoner_infer.change import Uncertain, UncertaintySource
from medreasoner_infer.imaging import Volume
from medreasoner_infer.mask_sizes import measure
from medreasoner_infer.result import Inference

MM3_PER_ML = 1000.0
_LEAST_BOXES = 3


@dataclass(frozen=True)
class TargetSizes:
    """Sizes of a target; ``None`` where nothing was marked or could be measured."""

    volume_ml: Uncertain | None = None
    long_axis_mm: Uncertain | None = None
    short_axis_mm: Uncertain | None = None


def target_sizes(
    result: Inference,
    mask_ijk: NDArray[Any],
    volume: Volume,
    second_ijk: NDArray[Any] | None = None,
) -> TargetSizes:
    """Measure a target.

    Args:
        result: what was asked about ``volume``.
        mask_ijk: the mask (I, J, K) on its grid.
        volume: the examination.
        second_ijk: the mask of a second look.
    """
    if not mask_ijk.any():
        return TargetSizes()
    mapping = result.mapping(volume)
    sizes = measure(mask_ijk, volume, mapping)
    second = None if second_ijk is None else measure(second_ijk, volume, mapping)
    scatter = box_scatter(result)
    pixel_mm = max(mapping.spacing_xy_mm)
    surface_mm3 = surface_uncertainty_mm3(mask_ijk, volume)

    def sized(name: str, of_voxels: float, scatter: float, unit: float = 1.0) -> Uncertain | None:
        value = getattr(sizes, name)
        other = None if second is None else getattr(second, name) or 0.0
        return None if value is None else _uncertain(value, of_voxels, scatter, other, unit)

    return TargetSizes(
        sized("volume_mm3", surface_mm3, 3 * scatter, MM3_PER_ML),
        sized("long_axis_mm", pixel_mm, scatter),
        sized("short_axis_mm", pixel_mm, scatter),
    )


def surface_uncertainty_mm3(mask_ijk: NDArray[Any], volume: Volume) -> float:
    """Half of the volume of the voxels (of a mask (I, J, K)) that touch the outside by a face."""
    filled = mask_ijk != 0
    surface = filled & ~ndimage.binary_erosion(filled)
    voxel_mm3 = abs(float(np.linalg.det(volume.ijk_to_lps[:3, :3])))
    return int(surface.sum()) * voxel_mm3 / 2


def box_scatter(result: Inference) -> float:
    """Relative standard deviation of the boxes' sides among answer and samples; 0 of too few."""
    answer = None if result.prompts is None else result.prompts.bbox_xyxy_slice_px
    boxes = [answer, *(sample.bbox_xyxy_slice_px for sample in result.samples)]
    sides = [np.sqrt((x2 - x1) * (y2 - y1)) for x1, y1, x2, y2 in (b for b in boxes if b)]
    if not result.samples or len(sides) < _LEAST_BOXES:
        return 0.0
    return float(np.std(sides, ddof=1) / np.mean(sides))


def _uncertain(
    value: float, of_voxels: float, scatter: float, second: float | None, unit: float
) -> Uncertain:
    """In another unit, with the largest of the uncertainties."""
    known: dict[UncertaintySource, float] = {"voxels": of_voxels, "samples": value * scatter}
    if second is not None:
        known["second_look"] = abs(second - value)
    source = max(known, key=lambda each: known[each])
    return Uncertain(value / unit, known[source] / unit, source)
