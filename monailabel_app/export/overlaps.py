# SPDX-License-Identifier: Apache-2.0
"""Segments that overlap in a DICOM segmentation, which its label map cannot hold whole."""

from __future__ import annotations

import numpy as np

from medreasoner_infer.imaging import Volume
from monailabel_app.dicom.seg_reading import read_segment
from monailabel_app.dicom.source import open_source
from monailabel_app.export.approved import ApprovedLabel, fetched_folder
from monailabel_app.images.source import ImageSource
from monailabel_app.studies.pacs_labels import OVERLAPPED, open_segmentation


def whole_segments(
    label: ApprovedLabel, image: ImageSource, volume: Volume
) -> dict[int, np.ndarray]:
    """The segments that lost voxels in the label map, by number, as uint8 (I, J, K).

    Raises:
        InputError: image or segmentation cannot be read.
    """
    numbers, folder = label.info.get(OVERLAPPED), fetched_folder(label)
    if not numbers or folder is None:
        return {}
    segmentation, _ = open_segmentation(folder)
    source = open_source(image.dicom_folder or image.path, volume, image.series_uid)
    return {number: read_segment(segmentation, number, source) for number in numbers}
