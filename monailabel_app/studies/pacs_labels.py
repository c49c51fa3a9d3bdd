# SPDX-License-Identifier: Apache-2.0
"""Labels that a DICOMweb server keeps as segmentations."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medreasoner_infer.imaging import write_mask
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.dicom_file import DAMAGED_HEADER, open_dicom
from medreasoner_infer.imaging.places import files_below
from monailabel_app.dicom.encoding import is_draft
from monailabel_app.dicom.errors import UnreadableResultError
from monailabel_app.dicom.seg_reading import SEGMENTATION_LIMITS, read_segment, segment_numbers
from monailabel_app.dicom.source import open_source
from monailabel_app.errors import PacsAnswerError, PacsFaultError, UnknownImageError
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import read_volume
from monailabel_app.labels import grid
from monailabel_app.pacs.faults import pacs_faults
from monailabel_app.pacs.series_search import SERIES_UID, STUDY_UID, uid_of
from monailabel_app.studies.set_aside import SetAside

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient
    from pydicom.dataset import Dataset

logger = logging.getLogger(__name__)


OVERLAPPED = "overlapped_segments"
_MOST_SEGMENTS = 65_535
_NO_ANSWER = (PacsAnswerError, PacsFaultError, UnknownImageError)


@dataclass(frozen=True)
class ServerSegmentations:
    """The latest segmentation's Series Instance UID by image series, and those not understood."""

    by_image: dict[str, str]
    set_aside: tuple[SetAside, ...] = ()


def newest_segmentations(client: DICOMwebClient, image_ids: Collection[str]) -> ServerSegmentations:
    """What the server has for these images; a segmentation that it cannot tell of is set aside.

    Raises:
        PacsUnreachableError: the server does not answer.
    """
    found: dict[str, tuple[tuple[str, str], str]] = {}
    aside = []
    with pacs_faults():
        listed = client.search_for_series(search_filters={"Modality": "SEG"})
    for entry in listed:
        name = "a segmentation without a UID"
        try:
            with pacs_faults():
                name = uid_of(entry, SERIES_UID)
                made_of = list(_made_of(client, entry))
        except _NO_ANSWER as error:
            aside.append(SetAside(name, str(error)))
            continue
        for image_id, made in made_of:
            if image_id in image_ids and made >= found.get(image_id, (("", ""), ""))[0]:
                found[image_id] = (made, name)
    newest = {image_id: series_uid for image_id, (_, series_uid) in found.items()}
    return ServerSegmentations(newest, tuple(aside))


def _made_of(
    client: DICOMwebClient, entry: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """The image series that a segmentation refers to, and the date and time of its content.

    None of an answer that nobody has reviewed, which is no label.
    """
    from pydicom.dataset import Dataset

    uids = uid_of(entry, STUDY_UID), uid_of(entry, SERIES_UID)
    for metadata in client.retrieve_series_metadata(*uids):
        instance = Dataset.from_json(metadata)
        if is_draft(instance):
            continue
        made = str(instance.get("ContentDate") or ""), str(instance.get("ContentTime") or "")
        for reference in instance.get("ReferencedSeriesSequence") or ():
            yield str(reference.SeriesInstanceUID), made


def open_segmentation(folder: Path) -> tuple[Dataset, tuple[str, ...]]:
    """The newest segmentation of a fetched series, and a warning where there are others.

    Raises:
        InputError: it cannot be read, or there is none.
    """
    opened = [open_dicom(file, SEGMENTATION_LIMITS)[0] for file in files_below(folder)]
    if not opened:
        raise UnreadableResultError("The DICOMweb server sent no segmentation; try again.")
    with reading(DAMAGED_HEADER):
        newest = max(opened, key=_made)
    if len(opened) == 1:
        return newest, ()
    return newest, (
        f"The series holds {len(opened)} segmentations; the newest is taken. Store each in a "
        "series of its own, or all segments in one.",
    )


def _made(segmentation: Dataset) -> tuple[str, str, int]:
    date, time = (str(segmentation.get(key) or "") for key in ("ContentDate", "ContentTime"))
    return date, time, int(segmentation.get("InstanceNumber") or 0)


@dataclass(frozen=True)
class LabelMapLoss:
    """What a label map cannot hold of its segmentation.

    Attributes:
        overlapped: numbers of the segments that lost voxels to others, as a voxel has one value.
        warnings: sentences for the administrator.
    """

    overlapped: tuple[int, ...]
    warnings: tuple[str, ...]


def write_label_map(folder: Path, image: ImageSource, target: Path) -> LabelMapLoss:
    """Write a fetched segmentation as a label map on its images' grid.

    Where segments overlap, the voxel gets the last one's value.

    Raises:
        InputError: image or segmentation cannot be read.
    """
    segmentation, warnings = open_segmentation(folder)
    volume = read_volume(image)
    source = open_source(image.dicom_folder or image.path, volume, image.series_uid)
    numbers = _label_values(segmentation)
    labels_ijk = np.zeros(volume.shape_ijk, np.min_scalar_type(max(numbers, default=0)))
    lost: Counter[int] = Counter()
    for number in numbers:
        inside = read_segment(segmentation, number, source) > 0
        before, counts = np.unique(labels_ijk[inside], return_counts=True)
        lost.update(dict(zip(before.tolist(), counts.tolist(), strict=True)))
        labels_ijk[inside] = number
    write_mask(labels_ijk, volume, target, dtype=labels_ijk.dtype)
    del lost[0]
    for warning in (*warnings, *_overlap(lost)):
        logger.warning("%s", warning)
    return LabelMapLoss(tuple(sorted(lost)), (*warnings, *_overlap(lost)))


def _label_values(segmentation: Dataset) -> list[int]:
    numbers = segment_numbers(segmentation)
    wrong = [number for number in numbers if not 0 < number <= _MOST_SEGMENTS]
    if wrong or len(set(numbers)) < len(numbers):
        raise UnreadableResultError(
            f"The segmentation numbers its segments {numbers[:20]}; expected different numbers "
            f"from 1 to {_MOST_SEGMENTS}."
        )
    return numbers


def _overlap(lost: Mapping[int, int]) -> tuple[str, ...]:
    if not lost:
        return ()
    return (
        f"Segments of a segmentation overlap. A label map holds one per voxel, so that {len(lost)} "
        f"segment(s) lost {sum(lost.values())} voxel(s) in what viewers get; the data set for "
        "training has them whole.",
    )


def is_empty_label(label_filename: str) -> bool:
    """Whether a submitted label holds nothing but zeros; ``.bin`` is bare uint8 voxels.

    Raises:
        UnreadableImageError: it cannot be read.
    """
    return grid.is_empty_label(Path(label_filename))
