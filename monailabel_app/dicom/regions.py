# SPDX-License-Identifier: Apache-2.0
"""Places on the images as spatial coordinates of a report, and back.

They are SCOORD: continuous columns and rows of an image with 0.0 at the outer corner of its first
pixel (PS3.3 C.18.6.1.2), which is IJK + 0.5. Viewers draw these alone: the OHIF that comes with
MONAI Label opens no report with an SCOORD3D polygon. What was shown on a reformatted plane, which
no image holds, is told by where it meets the acquired images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.imaging import SliceMapping
from medreasoner_infer.imaging.mapping import transform_points
from medreasoner_infer.types import XY, XYXY
from monailabel_app.common.extras import needs_extra
from monailabel_app.dicom.errors import UnreadableResultError
from monailabel_app.dicom.outlines import outlines
from monailabel_app.dicom.source import SourceFrame, SourceSeries

with needs_extra("highdicom", "pacs"):
    from highdicom.sr import ImageRegion, SourceImageForRegion

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

GRAPHIC_LINE = "POLYLINE"
_ACQUIRED_AXIS = 2
_PIXEL_CENTRE = 0.5


def source_frame(source: SourceSeries, mapping: SliceMapping) -> SourceFrame | None:
    """The image of the displayed slice; ``None`` for a reformatted plane."""
    return source.frames[mapping.index] if is_acquired(mapping) else None


def is_acquired(mapping: SliceMapping) -> bool:
    """Whether the displayed slice is an image of the series."""
    return mapping.slice_axis == _ACQUIRED_AXIS


def frame_numbers(frame: SourceFrame) -> list[int] | None:
    """As references take it."""
    return None if frame.frame_number is None else [frame.frame_number]


@dataclass(frozen=True, eq=False)
class FrameRegion:
    """Lines on one acquired image.

    Attributes:
        k: voxel index of the image.
        lines: vertices (N, 2) each, columns and rows as SCOORD has them; a closed polygon, or the
            two ends of a line.
    """

    k: int
    lines: tuple[np.ndarray, ...]

    def image_regions(self, source: SourceSeries) -> list[ImageRegion]:
        """As content items."""
        return [_image_region(GRAPHIC_LINE, line, self.k, source) for line in self.lines]


def mask_region(mask_ijk: np.ndarray, mapping: SliceMapping) -> FrameRegion | None:
    """The outlines of a mask on the displayed slice, else on the image that shows most of it.

    Args:
        mask_ijk: mask (I, J, K).

    Returns:
        The largest part first; ``None`` for an empty mask.
    """
    counts = np.count_nonzero(mask_ijk, axis=(0, 1))
    if not counts.any():
        return None
    is_shown = is_acquired(mapping) and counts[mapping.index] > 0
    k = mapping.index if is_shown else int(counts.argmax())
    return FrameRegion(k, tuple(outlines(mask_ijk[:, :, k])))


def slice_region(mapping: SliceMapping) -> FrameRegion:
    """All of the displayed slice; of a reformatted one where it crosses the middle image."""
    height, width = mapping.shape_hw
    corners = mapping.slice_px_to_ijk([(0, 0), (width, 0), (width, height), (0, height), (0, 0)])
    columns_rows = corners[:, :2] + _PIXEL_CENTRE
    if is_acquired(mapping):
        return FrameRegion(mapping.index, (columns_rows,))
    ends = np.stack([columns_rows.min(axis=0), columns_rows.max(axis=0)])
    low, high = corners[:, _ACQUIRED_AXIS].min(), corners[:, _ACQUIRED_AXIS].max()
    return FrameRegion(int((low + high) // 2), (ends,))


def box_region(bbox_xyxy_px: XYXY, mapping: SliceMapping, source: SourceSeries) -> ImageRegion:
    """A closed polygon through the corners of a box in px of an acquired slice."""
    x1, y1, x2, y2 = bbox_xyxy_px
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
    return _on_slice(GRAPHIC_LINE, corners, mapping, source)


def point_region(
    point_xy_px: tuple[float, float], mapping: SliceMapping, source: SourceSeries
) -> ImageRegion:
    """A point in px of an acquired slice."""
    return _on_slice("POINT", [point_xy_px], mapping, source)


def read_region(item: Dataset, mapping: SliceMapping, source: SourceSeries) -> np.ndarray:
    """The vertices (N, 2) of an SCOORD or SCOORD3D content item in px of the displayed slice.

    The latter, LPS millimetres (PS3.3 C.18.9.1.2), is what was written of reformatted planes.

    Raises:
        UnreadableResultError: it refers to an image that the series does not hold.
    """
    numbers = np.array(item.GraphicData, dtype=np.float64)
    if item.ValueType == "SCOORD3D":
        to_ijk = np.linalg.inv(source.volume.ijk_to_lps)
        return mapping.ijk_to_slice_px(transform_points(to_ijk, numbers.reshape(-1, 3)))
    columns_rows = numbers.reshape(-1, 2)
    ijk = np.empty((len(columns_rows), 3))
    ijk[:, :2] = columns_rows - _PIXEL_CENTRE
    ijk[:, 2] = _slice_of(item, source)
    return mapping.ijk_to_slice_px(ijk)


def _on_slice(
    graphic_type: str, points_px: list[XY], mapping: SliceMapping, source: SourceSeries
) -> ImageRegion:
    points_ijk = mapping.slice_px_to_ijk(points_px)
    return _image_region(graphic_type, points_ijk[:, :2] + _PIXEL_CENTRE, mapping.index, source)


def _image_region(
    graphic_type: str, columns_rows: np.ndarray, k: int, source: SourceSeries
) -> ImageRegion:
    frame = source.frames[k]
    image = SourceImageForRegion(
        frame.image.SOPClassUID, frame.image.SOPInstanceUID, frame_numbers(frame)
    )
    return ImageRegion(graphic_type, columns_rows, source_image=image)


def _slice_of(item: Dataset, source: SourceSeries) -> int:
    reference = item.ContentSequence[0].ReferencedSOPSequence[0]
    uid, number = str(reference.ReferencedSOPInstanceUID), reference.get("ReferencedFrameNumber")
    for index, frame in enumerate(source.frames):
        same_frame = number is None or frame.frame_number in (None, int(number))
        if str(frame.image.SOPInstanceUID) == uid and same_frame:
            return index
    raise UnreadableResultError(
        "The report refers to an image that the series does not hold; send the whole series."
    )
