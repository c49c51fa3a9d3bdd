# SPDX-License-Identifier: Apache-2.0
"""Labels that a DICOMweb server keeps as segmentations."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.imaging import write_mask
from medreasoner_infer.imaging.dicom_file import open_dicom
from medreasoner_infer.imaging.places import files_below
from monailabel_app.dicom.errors import UnreadableResultError
from monailabel_app.dicom.seg_reading import SEGMENTATION_LIMITS, read_segment, segment_numbers
from monailabel_app.dicom.source import open_source
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import read_volume
from monailabel_app.labels import grid
from monailabel_app.pacs.series_search import SERIES_UID, STUDY_UID, uid_of

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient


def newest_segmentations(client: DICOMwebClient, image_ids: Collection[str]) -> dict[str, str]:
    """The latest segmentation's Series Instance UID by the image series that it refers to."""
    from pydicom.dataset import Dataset

    found: dict[str, tuple[tuple[str, str], str]] = {}
    for entry in client.search_for_series(search_filters={"Modality": "SEG"}):
        uids = uid_of(entry, STUDY_UID), uid_of(entry, SERIES_UID)
        for metadata in client.retrieve_series_metadata(*uids):
            instance = Dataset.from_json(metadata)
            made = str(instance.get("ContentDate") or ""), str(instance.get("ContentTime") or "")
            for reference in instance.get("ReferencedSeriesSequence") or ():
                image_id = str(reference.SeriesInstanceUID)
                if image_id in image_ids and made >= found.get(image_id, (("", ""), ""))[0]:
                    found[image_id] = (made, uids[1])
    return {image_id: series_uid for image_id, (_, series_uid) in found.items()}


def write_label_map(folder: Path, image: ImageSource, target: Path) -> None:
    """Write a fetched segmentation as a label map on its images' grid.

    Raises:
        InputError: image or segmentation cannot be read.
    """
    file = next(files_below(folder), None)
    if file is None:
        raise UnreadableResultError("The DICOMweb server sent no segmentation; try again.")
    segmentation, _ = open_dicom(file, SEGMENTATION_LIMITS)
    volume = read_volume(image)
    source = open_source(image.dicom_folder or image.path, volume, image.series_uid)
    labels_ijk = np.zeros(volume.shape_ijk, dtype=np.uint8)
    for number in segment_numbers(segmentation):
        if not 0 < number < 256:
            raise UnreadableResultError(
                f"The segmentation has a segment {number}; a label map holds 1 to 255."
            )
        labels_ijk[read_segment(segmentation, number, source) > 0] = number
    write_mask(labels_ijk, volume, target)


def is_empty_label(label_filename: str) -> bool:
    """Whether a submitted label holds nothing but zeros; ``.bin`` is bare uint8 voxels.

    Raises:
        UnreadableImageError: it cannot be read.
    """
    return grid.is_empty_label(Path(label_filename))
