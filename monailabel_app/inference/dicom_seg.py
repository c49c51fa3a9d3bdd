# SPDX-License-Identifier: Apache-2.0
"""A mask as a DICOM segmentation in the reply to a question (``output=dicom_seg``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import Volume
from medreasoner_infer.result import InferenceResult
from monailabel_app.dicom.encoding import new_ids, to_bytes
from monailabel_app.dicom.label_segments import Answered, segments_of
from monailabel_app.dicom.segmentation import write_segmentation
from monailabel_app.dicom.sides import with_checked_sides
from monailabel_app.dicom.source import open_source
from monailabel_app.images.source import ImageSource
from monailabel_app.labels.segments import LABEL_VALUE, segment_info


def require_series(source: ImageSource) -> Path:
    """The folder of the image's DICOM files.

    Raises:
        InputError: if the image is no DICOM series.
    """
    if source.dicom_folder is None:
        raise InputError(
            "A DICOM segmentation needs an image that is a DICOM series; ask with output=all."
        )
    return source.dicom_folder


def dicom_seg_of(
    result: InferenceResult, volume: Volume, source: ImageSource, label_info: Any = None
) -> bytes:
    """The mask of an answer as the bytes of a DICOM segmentation.

    Args:
        result: the answer; its mask is on the grid of ``volume``.
        volume: the image that ``source`` stands for.
        source: where the image's DICOM files are.
        label_info: MONAI Label's ``label_info`` of the client; ours if there is none.

    Raises:
        InputError: if the image is no DICOM series, nothing was found on it, ``label_info`` is
            malformed, or the series lacks what a segmentation must refer to.
    """
    folder = require_series(source)
    if not result.mask_ijk.any():
        said = {"not_understood": "The question was not understood"}.get(
            result.outcome, "The target is not present on the image"
        )
        raise InputError(
            f"{said}, and a DICOM segmentation cannot be empty; ask with output=all or output=json "
            "for the reasoning."
        )
    answered = Answered(result.inference_id, result.asks_for)
    segments = segments_of(_checked(label_info), [LABEL_VALUE], answered)
    checked = with_checked_sides(segments, result.mask_ijk, volume)
    series = open_source(folder, volume, source.series_uid)
    return to_bytes(write_segmentation(result.mask_ijk, checked.segments, series, new_ids()))


def _checked(label_info: Any) -> list[dict[str, Any]]:
    if not label_info:
        return [segment_info()]
    if isinstance(label_info, list) and all(isinstance(entry, dict) for entry in label_info):
        return label_info
    raise InputError("'label_info' is malformed; expected a list of objects, one per segment.")
