# SPDX-License-Identifier: Apache-2.0
"""A mask as a DICOM segmentation in the reply to a question (``output=dicom_seg``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import load_volume
from monailabel_app.dicom.encoding import new_ids, to_bytes
from monailabel_app.dicom.label_segments import segments_of
from monailabel_app.dicom.segmentation import write_segmentation
from monailabel_app.dicom.source import open_source
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import read_volume
from monailabel_app.labels.grid import label_on_grid
from monailabel_app.labels.segments import segment_info


def dicom_seg_of(mask_file: str, source: ImageSource, label_info: Any = None) -> bytes:
    """The mask of a file as the bytes of a DICOM segmentation.

    Args:
        label_info: MONAI Label's ``label_info`` of the client; ours if there is none.

    Raises:
        InputError: if the image is no DICOM series, nothing was found on it, ``label_info`` is
            malformed, or the series lacks what a segmentation must refer to.
    """
    if source.dicom_folder is None:
        raise InputError(
            "A DICOM segmentation needs an image that is a DICOM series; ask with output=all."
        )
    volume = read_volume(source)
    labels_ijk = label_on_grid(load_volume(mask_file), volume)
    if labels_ijk is None or not labels_ijk.any():
        raise InputError(
            "The target is not present on the image, and a DICOM segmentation cannot be empty; "
            "ask with output=all or output=json for the reasoning."
        )
    values = [int(value) for value in np.unique(labels_ijk) if value]
    segments = segments_of(_checked(label_info), values, None)
    series = open_source(source.dicom_folder, volume, source.series_uid)
    return to_bytes(write_segmentation(labels_ijk, segments, series, new_ids()))


def _checked(label_info: Any) -> list[dict[str, Any]]:
    if not label_info:
        return [segment_info()]
    if isinstance(label_info, list) and all(isinstance(entry, dict) for entry in label_info):
        return label_info
    raise InputError("'label_info' is malformed; expected a list of objects, one per segment.")
