# SPDX-License-Identifier: Apache-2.0
"""Real images with labels, which embedded models are judged on and never trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import SimpleITK as sitk


def read_labelled(image_path: Path, label_path: Path) -> tuple[sitk.Image, sitk.Image]:
    """An image turned to LPS, and its labels on the same grid.

    Labels are brought there by physical space (nearest neighbour): a label file's rows may be
    stored the other way round.

    Args:
        image_path: a file, or the folder of a DICOM series.
        label_path: a file.
    """
    import SimpleITK as sitk

    source: str | tuple[str, ...] = str(image_path)
    if image_path.is_dir():
        source = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(source)
    image = sitk.DICOMOrient(sitk.ReadImage(source), "LPS")
    labels = sitk.Resample(
        sitk.ReadImage(str(label_path)), image, sitk.Transform(), sitk.sitkNearestNeighbor
    )
    return image, labels
