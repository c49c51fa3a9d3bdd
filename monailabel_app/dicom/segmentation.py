# SPDX-License-Identifier: Apache-2.0
"""Writing a label map as a DICOM Segmentation (PS3.3 A.51).

Frames are those of the source images, so that any orientation and a tilted gantry stay as they are:
nothing is resampled.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from medreasoner_infer import __version__
from monailabel_app.common.extras import needs_extra
from monailabel_app.dicom import vocabulary
from monailabel_app.dicom.codes import SegmentCodes
from monailabel_app.dicom.colours import cielab, stable_rgb
from monailabel_app.dicom.encoding import (
    AUTOMATIC,
    MANUFACTURER,
    SEG_SERIES_NUMBER,
    InstanceIds,
    coded,
    device_attributes,
    finished,
    series_description,
    standard_code,
    writing_of,
)
from monailabel_app.dicom.errors import DicomResultError
from monailabel_app.dicom.source import SourceSeries
from monailabel_app.dicom.text import shortened
from monailabel_app.store.records import RGB

with needs_extra("highdicom", "pacs"):
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import (
        SegmentAlgorithmTypeValues,
        Segmentation,
        SegmentationTypeValues,
        SegmentDescription,
    )

SOURCE_UNKNOWN = "source unknown"
_AUTOMATIC = SegmentAlgorithmTypeValues(AUTOMATIC)


@dataclass(frozen=True)
class SegmentSpec:
    """One segment of a label map.

    Attributes:
        value: its value in the label map.
        label: its name.
        codes: see :mod:`.codes`.
        tracking: unique and human-readable identifier of what is segmented, where it is known.
        model: name and version of the algorithm, ``None`` where it is not known what made the
            mask, which may then be a model or a hand.
        rgb: the colour on the screen; that of the label's name where nothing is told.
        is_draft: whether no reader has submitted it; see :func:`.encoding.is_draft`.
    """

    value: int
    label: str
    codes: SegmentCodes
    tracking: tuple[str, str] | None = None
    model: tuple[str, str] | None = None
    rgb: RGB | None = None
    is_draft: bool = False


def write_segmentation(
    labels_ijk: np.ndarray,
    segments: Sequence[SegmentSpec],
    source: SourceSeries,
    ids: InstanceIds,
    *,
    state: str | None = None,
    previous: Dataset | None = None,
) -> Dataset:
    """Make a DICOM Segmentation; segments are numbered 1, 2, … in the order of ``segments``.

    Args:
        labels_ijk: label values (I, J, K) on the grid of ``source.volume``.
        state: what became of it, for the name of the series.
        previous: the version that it replaces; SOP Class, SOP Instance and Series UID suffice.

    Raises:
        DicomResultError: the label map is empty, or covers more than one frame of a clip or of
            images that have no place in the patient.
        UnusableSeriesError: the images' headers do not allow it.
    """
    numbered = np.zeros(labels_ijk.shape, np.uint8 if len(segments) < 256 else np.uint16)
    for number, segment in enumerate(segments, start=1):
        numbered[labels_ijk == segment.value] = number
    if not numbered.any():
        raise DicomResultError("An empty mask cannot be kept as a DICOM segmentation.")
    images, frames_kji, clip_frame = _frames(numbered, source)
    with writing_of("a DICOM segmentation"):
        written = Segmentation(
            source_images=images,
            pixel_array=frames_kji,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_described(i, s) for i, s in enumerate(segments, start=1)],
            series_instance_uid=ids.series_uid,
            series_number=SEG_SERIES_NUMBER,
            sop_instance_uid=ids.instance_uid,
            instance_number=ids.version,
            content_label="MEDREASONER",
            content_description="Target of a clinical question",
            **device_attributes(),
        )
    if source.volume.is_picture:
        # Type 2C of the General Image module (PS3.3 C.7.6.1) without Image Orientation (Patient).
        written.PatientOrientation = source.first.get("PatientOrientation", "")
    if clip_frame is not None:
        _refer_to_frame(written, clip_frame)
    if previous is not None:
        _refer_to_replaced(written, previous)
    names = [segment.label for segment in segments]
    return finished(written, series_description(names, state, ids.version))


def _frames(
    numbered_ijk: np.ndarray, source: SourceSeries
) -> tuple[list[Dataset], np.ndarray, int | None]:
    """Source images, their frames' segment numbers (frames, rows, columns), and a clip's frame."""
    frames_kji = np.ascontiguousarray(numbered_ijk.transpose(2, 1, 0))
    if source.volume.is_picture:
        return _single_frame(frames_kji, source)
    first = source.frames[0]
    if first.frame_number is None:
        return list(source.images), frames_kji, None
    order = np.argsort([frame.frame_number or 0 for frame in source.frames])
    return [first.image], np.ascontiguousarray(frames_kji[order]), None


def _single_frame(
    frames_kji: np.ndarray, source: SourceSeries
) -> tuple[list[Dataset], np.ndarray, int | None]:
    """The one frame that a mask lies on, among images without a place in the patient."""
    (filled,) = np.nonzero(frames_kji.any(axis=(1, 2)))
    if len(filled) > 1:
        raise DicomResultError(
            f"The mask covers {len(filled)} frames of a clip or images that have no place in the "
            "patient; a DICOM segmentation of such holds one. Submit the mask of one frame."
        )
    frame = source.frames[int(filled[0])]
    image = frame.image
    if frame.frame_number is not None:
        image = copy.copy(image)
        del image.NumberOfFrames
    return [image], frames_kji[filled], frame.frame_number


def _refer_to_frame(written: Dataset, frame_number: int) -> None:
    (frame,) = written.PerFrameFunctionalGroupsSequence
    reference = frame.DerivationImageSequence[0].SourceImageSequence[0]
    reference.ReferencedFrameNumber = frame_number


def _refer_to_replaced(written: Dataset, previous: Dataset) -> None:
    """General Reference (PS3.3 C.12.4): segmentations have no Predecessor Documents Sequence."""
    instance = Dataset()
    instance.ReferencedSOPClassUID = previous.SOPClassUID
    instance.ReferencedSOPInstanceUID = previous.SOPInstanceUID
    series = Dataset()
    series.SeriesInstanceUID = previous.SeriesInstanceUID
    series.ReferencedInstanceSequence = [copy.copy(instance)]
    # Readers take the images' series for the first one.
    written.ReferencedSeriesSequence.append(series)
    instance.PurposeOfReferenceCodeSequence = [coded(vocabulary.REPLACED)]
    written.ReferencedImageSequence = [instance]
    written.CodingSchemeIdentificationSequence = vocabulary.coding_schemes()


def _described(number: int, segment: SegmentSpec) -> SegmentDescription:
    name, version = segment.model or (SOURCE_UNKNOWN, SOURCE_UNKNOWN)
    algorithm = AlgorithmIdentificationSequence(
        name=shortened(name),
        family=standard_code("cid7162", "ArtificialIntelligence"),
        version=shortened(version),
        source=f"{MANUFACTURER} {__version__}",
    )
    region = segment.codes.region
    description = SegmentDescription(
        segment_number=number,
        segment_label=shortened(segment.label),
        segmented_property_category=coded(segment.codes.category),
        segmented_property_type=coded(segment.codes.kind),
        algorithm_type=_AUTOMATIC if segment.is_draft else SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=None if segment.tracking is None else segment.tracking[0],
        tracking_id=None if segment.tracking is None else segment.tracking[1],
        anatomic_regions=None if region is None else [coded(region)],
    )
    if segment.model is None:
        # Its name is all that is required of an algorithm (PS3.3 C.8.20.2).
        del description.SegmentationAlgorithmIdentificationSequence
    rgb = segment.rgb or stable_rgb(segment.label)
    description.RecommendedDisplayCIELabValue = list(cielab(rgb))
    _set_laterality(description, segment.codes)
    return description


def _set_laterality(description: Dataset, segment_codes: SegmentCodes) -> None:
    """Modifiers that PS3.3 C.8.20.2 and 10.5 allow, and highdicom has no argument for."""
    if segment_codes.laterality is None:
        return
    side = [coded(segment_codes.laterality)]
    if segment_codes.region is None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = side
    else:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = side
