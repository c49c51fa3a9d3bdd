# SPDX-License-Identifier: Apache-2.0
"""Box and points as spatial coordinates of a report, and back.

On an acquired frame they are SCOORD: continuous columns and rows of the image with 0.0 at the
outer corner of its first pixel (PS3.3 C.18.6.1.2), which is IJK + 0.5. On a reformatted plane no
image holds them, and they are SCOORD3D: LPS millimetres (PS3.3 C.18.9.1.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.imaging import SliceMapping
from medreasoner_infer.imaging.mapping import transform_points
from medreasoner_infer.types import XYXY
from monailabel_app.common.extras import needs_extra
from monailabel_app.dicom.errors import UnreadableResultError, UnusableSeriesError
from monailabel_app.dicom.source import SourceFrame, SourceSeries

with needs_extra("highdicom", "pacs"):
    from highdicom.sr import ImageRegion, ImageRegion3D, SourceImageForRegion

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_ACQUIRED_AXIS = 2
_PIXEL_CENTRE = 0.5


def source_frame(source: SourceSeries, mapping: SliceMapping) -> SourceFrame | None:
    """The image of the displayed slice; ``None`` for a reformatted plane."""
    return source.frames[mapping.index] if mapping.slice_axis == _ACQUIRED_AXIS else None


def frame_numbers(frame: SourceFrame) -> list[int] | None:
    """As references take it."""
    return None if frame.frame_number is None else [frame.frame_number]


def box_region(
    bbox_xyxy_px: XYXY, mapping: SliceMapping, source: SourceSeries
) -> ImageRegion | ImageRegion3D:
    """A closed polygon through the corners of a box in slice px."""
    x1, y1, x2, y2 = bbox_xyxy_px
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
    return _region(mapping.slice_px_to_ijk(corners), mapping, source, ("POLYLINE", "POLYGON"))


def point_region(
    point_xy_px: tuple[float, float], mapping: SliceMapping, source: SourceSeries
) -> ImageRegion | ImageRegion3D:
    """A point in slice px."""
    return _region(mapping.slice_px_to_ijk([point_xy_px]), mapping, source, ("POINT", "POINT"))


def read_region(item: Dataset, mapping: SliceMapping, source: SourceSeries) -> np.ndarray:
    """The vertices (N, 2) of an SCOORD or SCOORD3D content item in px of the displayed slice.

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


def _region(
    points_ijk: np.ndarray,
    mapping: SliceMapping,
    source: SourceSeries,
    graphic_2d_3d: tuple[str, str],
) -> ImageRegion | ImageRegion3D:
    frame = source_frame(source, mapping)
    if frame is None:
        points_lps_mm = transform_points(source.volume.ijk_to_lps, points_ijk)
        uid = source.frame_of_reference_uid
        if uid is None:
            raise UnusableSeriesError("The series has no Frame of Reference UID; send it again.")
        return ImageRegion3D(graphic_2d_3d[1], points_lps_mm, frame_of_reference_uid=uid)
    image = SourceImageForRegion(
        frame.image.SOPClassUID, frame.image.SOPInstanceUID, frame_numbers(frame)
    )
    return ImageRegion(graphic_2d_3d[0], points_ijk[:, :2] + _PIXEL_CENTRE, source_image=image)


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
