# SPDX-License-Identifier: Apache-2.0
"""Sizes of a target in one examination, each with its uncertainty.

Of the voxels: every voxel of the surface may be half outside, or half a voxel more belong to the
target, and a diameter may be wrong by half a pixel at each end. Of samples: the boxes of several
answers to the same question scatter about their mean; a diameter is taken to scatter as the square
root of the box's area does, a volume as its cube. The larger of the two counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medreasoner_infer.change import Uncertain
from medreasoner_infer.imaging import SliceMapping, Volume
from medreasoner_infer.records import summarise_mask
from medreasoner_infer.result import Inference

MM3_PER_ML = 1000.0
_LEAST_BOXES = 3


class MeasuredSizes(Protocol):
    """Sizes in mm and mm3, ``None`` where they are not known; axes are of the displayed slice."""

    @property
    def volume_mm3(self) -> float | None:
        """Of all voxels."""

    @property
    def long_axis_mm(self) -> float | None:
        """Greatest extent on the slice."""

    @property
    def short_axis_mm(self) -> float | None:
        """Extent across it."""


Measure = Callable[[NDArray[Any], Volume, SliceMapping], MeasuredSizes]


@dataclass(frozen=True)
class VolumeAlone:
    """The sizes of :func:`measure_volume`."""

    volume_mm3: float | None
    long_axis_mm: float | None = None
    short_axis_mm: float | None = None


def measure_volume(mask_ijk: NDArray[Any], volume: Volume, mapping: SliceMapping) -> VolumeAlone:
    """The volume of a mask (I, J, K), without diameters."""
    return VolumeAlone(summarise_mask(mask_ijk, mapping, None).volume_mm3)


@dataclass(frozen=True)
class TargetSizes:
    """Sizes of a target; ``None`` where nothing was marked or could be measured."""

    volume_ml: Uncertain | None = None
    long_axis_mm: Uncertain | None = None
    short_axis_mm: Uncertain | None = None


def target_sizes(
    result: Inference, mask_ijk: NDArray[Any], volume: Volume, measure: Measure
) -> TargetSizes:
    """Measure a mask (I, J, K) on the grid of ``volume``, which ``result`` was asked about."""
    if not mask_ijk.any():
        return TargetSizes()
    mapping = result.mapping(volume)
    sizes = measure(mask_ijk, volume, mapping)
    scatter = box_scatter(result)
    pixel_mm = max(mapping.spacing_xy_mm)
    volume_ml = None if sizes.volume_mm3 is None else sizes.volume_mm3 / MM3_PER_ML
    surface_ml = surface_uncertainty_mm3(mask_ijk, volume) / MM3_PER_ML
    return TargetSizes(
        _uncertain(volume_ml, surface_ml, 3 * scatter),
        _uncertain(sizes.long_axis_mm, pixel_mm, scatter),
        _uncertain(sizes.short_axis_mm, pixel_mm, scatter),
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


def _uncertain(value: float | None, of_voxels: float, scatter: float) -> Uncertain | None:
    if value is None:
        return None
    of_samples = value * scatter
    if of_samples > of_voxels:
        return Uncertain(value, of_samples, "samples")
    return Uncertain(value, of_voxels, "voxels")
