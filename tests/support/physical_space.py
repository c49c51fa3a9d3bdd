# SPDX-License-Identifier: Apache-2.0
"""Where pixels lie in the patient, by DICOM's own formulas and nothing of the product."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydicom.dataset import Dataset


def pixel_to_lps(
    header: Dataset, columns: np.ndarray | float, rows: np.ndarray | float
) -> np.ndarray:
    """LPS mm (..., 3) of pixels (...); integers are centres (PS3.3 equation C.7.6.2.1-1)."""
    cosines = np.array(header.ImageOrientationPatient, dtype=float)
    row_mm, column_mm = (float(value) for value in header.PixelSpacing)
    along = np.multiply.outer(columns, cosines[:3] * column_mm)
    down = np.multiply.outer(rows, cosines[3:] * row_mm)
    return np.array(header.ImagePositionPatient, dtype=float) + along + down


def segment_lps_mm(segmentation: Dataset) -> np.ndarray:
    """Positions (N, 3) of the centres of a SEG's pixels, frame by frame."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    found = []
    for pixels, item in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        header = Dataset()
        header.ImagePositionPatient = item.PlanePositionSequence[0].ImagePositionPatient
        header.ImageOrientationPatient = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        header.PixelSpacing = shared.PixelMeasuresSequence[0].PixelSpacing
        rows, columns = np.nonzero(pixels)
        found.append(pixel_to_lps(header, columns, rows))
    return np.concatenate(found)


def report_regions_lps_mm(report: Dataset, images: Mapping[str, Dataset]) -> list[np.ndarray]:
    """Each region of an SR as positions (N, 3): SCOORD3D as it is, SCOORD by its image's plane.

    ``images`` holds the headers by SOP Instance UID.
    """
    found = []
    for group in report.ContentSequence[-1].ContentSequence:
        for item in group.ContentSequence:
            if item.ValueType == "SCOORD3D":
                found.append(np.array(item.GraphicData, dtype=float).reshape(-1, 3))
            elif item.ValueType == "SCOORD":
                image = item.ContentSequence[0].ReferencedSOPSequence[0]
                # 0.0 is the outer corner of the first pixel (PS3.3 C.18.6.1.2).
                columns, rows = np.array(item.GraphicData, dtype=float).reshape(-1, 2).T - 0.5
                header = images[image.ReferencedSOPInstanceUID]
                found.append(pixel_to_lps(header, columns, rows))
    return found
