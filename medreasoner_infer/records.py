# SPDX-License-Identifier: Apache-2.0
"""What an inference did, put into the result's dataclasses."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.imaging import SliceMapping, slice_count
from medreasoner_infer.result import MaskSummary, SliceRecord
from medreasoner_infer.slice_choice import DisplayedSlice


def now() -> str:
    """The time in UTC, as records keep it (ISO 8601 with milliseconds)."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def record_slice(shown: DisplayedSlice) -> SliceRecord:
    """Which slice was read and how it was displayed."""
    mapping, window = shown.mapping, shown.window
    height, width = mapping.shape_hw
    x, y, z = mapping.slice_px_to_lps((width / 2, height / 2))
    return SliceRecord(
        plane=mapping.plane.value,
        index=mapping.index,
        count=slice_count(shown.volume, mapping.plane),
        shape_hw=mapping.shape_hw,
        spacing_xy_mm=mapping.spacing_xy_mm if mapping.spacing_known else None,
        center_lps_mm=(float(x), float(y), float(z)),
        window_name="as stored" if window is None else window.name,
        window_center=None if window is None else window.center,
        window_width=None if window is None else window.width,
    )


def summarise_mask(
    mask_ijk: NDArray[np.uint8], mapping: SliceMapping, predicted_iou: float | None
) -> MaskSummary:
    """Sizes of a mask (I, J, K) in voxels and, where the image tells its scale, in mm² and mm³."""
    other_axes = tuple(axis for axis in range(3) if axis != mapping.slice_axis)
    per_slice = mask_ijk.sum(axis=other_axes, dtype=np.int64)
    (filled,) = np.nonzero(per_slice)
    voxels = int(per_slice.sum())
    edges = mapping.ijk_to_lps[:3, :3]
    x_edge, y_edge = edges[:, mapping.axes.x_axis], edges[:, mapping.axes.y_axis]
    pixel_mm2 = float(np.linalg.norm(np.cross(x_edge, y_edge)))
    voxel_mm3 = abs(float(np.linalg.det(edges)))
    area_mm2 = round(float(per_slice[mapping.index]) * pixel_mm2, 3)
    volume_mm3 = round(voxels * voxel_mm3, 3)
    return MaskSummary(
        voxels=voxels,
        volume_mm3=volume_mm3 if mapping.spacing_known and not mapping.is_picture else None,
        slice_area_mm2=area_mm2 if mapping.spacing_known else None,
        slice_range=(int(filled[0]), int(filled[-1])) if filled.size else None,
        predicted_iou=predicted_iou,
    )
