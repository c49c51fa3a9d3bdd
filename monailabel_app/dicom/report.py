# SPDX-License-Identifier: Apache-2.0
"""Writing an answered question as a Comprehensive SR (PS3.3 A.35.3), template TID 1500.

One measurement group holds the answer: question, reasoning, outcome, and the mask's segment if
there is one. A second one of the same tracking identifier says where on the images it is: the
mask's outline, with its sizes, or the slice that was read. Box and key points are planar regions of
their own (TID 1410). What has no coded place, such as timings and sampled answers, is one text item
of JSON.

Below every number lies an SCOORD, and in every group, as viewers expect it (OHIF's
``cornerstone-dicom-sr``, ``getSopClassHandlerModule.ts``); the same viewer draws no SCOORD of a
Comprehensive 3D SR.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medreasoner_infer import __version__
from medreasoner_infer.imaging import Plane, SliceMapping, slice_mapping
from medreasoner_infer.mask_sizes import MaskSizes, measure
from medreasoner_infer.result import Inference
from monailabel_app.common.extras import needs_extra
from monailabel_app.dicom import vocabulary
from monailabel_app.dicom.codes import ConceptCode, SegmentCodes
from monailabel_app.dicom.encoding import (
    MANUFACTURER,
    MODEL_NAME,
    REPORT_SERIES_NUMBER,
    InstanceIds,
    coded,
    device_attributes,
    device_uid,
    finished,
    stable_uid,
    standard_code,
    writing_of,
)
from monailabel_app.dicom.regions import (
    FrameRegion,
    box_region,
    frame_numbers,
    is_acquired,
    mask_region,
    point_region,
    slice_region,
    source_frame,
)
from monailabel_app.dicom.source import SourceSeries
from monailabel_app.store.records import Decision, InferenceRecord

with needs_extra("highdicom", "pacs"):
    from highdicom import sr

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MeasurementGroup = (
    sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | sr.MeasurementsAndQualitativeEvaluations
)

DETAILS_VERSION = 1
# Kept as content items of their own, so not repeated in the details.
CODED_FIELDS = ("query", "reasoning", "present", "outcome")
# By it Cornerstone, and OHIF with it, restores a closed outline as a measurement.
OUTLINE_TRACKING = "Cornerstone3DTools@^0.1.0:PlanarFreehandROI"


@dataclass(frozen=True)
class ReferencedSegment:
    """The segment that holds the mask: a Segmentation and the segment's number in it."""

    segmentation: Dataset
    number: int


@dataclass(frozen=True, eq=False)
class ReportContent:
    """What a report says.

    Attributes:
        record: the inference, with the reader's decision if there is one.
        mask_ijk: the mask (I, J, K) that goes with it, ``None`` if there is none to keep.
        segment: where that mask is kept.
        segment_codes: what the mask is said to be.
        description: of the series.
    """

    record: InferenceRecord
    mask_ijk: np.ndarray | None
    segment: ReferencedSegment | None
    segment_codes: SegmentCodes
    description: str


def tracking_of(inference_id: str) -> tuple[str, str]:
    """Unique and readable identifier of a record, the same in each of its versions."""
    return stable_uid("inference", inference_id), f"MedReasoner {inference_id}"


def write_report(
    content: ReportContent,
    source: SourceSeries,
    ids: InstanceIds,
    previous: Sequence[Dataset] = (),
) -> Dataset:
    """Make the report.

    Args:
        previous: earlier versions of it; SOP Class, SOP Instance, Series and Study UID suffice.

    Raises:
        UnusableSeriesError: the images' headers do not allow it.
    """
    mapping = content.record.result.mapping(source.volume)
    region = _region(content, mapping)
    with writing_of("a DICOM report"):
        groups: list[MeasurementGroup] = [
            _region_group(content, region, source),
            _answer_group(content, region, source, mapping),
            *_prompts(content, source, mapping),
        ]
        modality = content.record.result.modality
        procedure = vocabulary.PROCEDURES.get(modality, vocabulary.ANY_PROCEDURE)
        report = sr.MeasurementReport(
            observation_context=observers(content.record.decision),
            procedure_reported=coded(procedure),
            imaging_measurements=groups,
        )
        written = sr.ComprehensiveSR(
            evidence=_evidence(content, region, source, mapping),
            content=report[0],
            series_instance_uid=ids.series_uid,
            series_number=REPORT_SERIES_NUMBER,
            sop_instance_uid=ids.instance_uid,
            instance_number=ids.version,
            is_complete=True,
            previous_versions=list(previous) or None,
            coding_schemes=vocabulary.coding_schemes(),
            **device_attributes(),
        )
    return finished(written, content.description)


def _region(content: ReportContent, mapping: SliceMapping) -> FrameRegion:
    """Where the answer is on the images: the mask, without one the slice that was read."""
    masked = None if content.segment is None or content.mask_ijk is None else content.mask_ijk
    outlined = None if masked is None else mask_region(masked, mapping)
    return outlined or slice_region(mapping)


def _evidence(
    content: ReportContent, region: FrameRegion, source: SourceSeries, mapping: SliceMapping
) -> list[Dataset]:
    """All that the report refers to, each once."""
    shown = source_frame(source, mapping)
    frames = [source.frames[region.k], *([] if shown is None else [shown])]
    images = {str(frame.image.SOPInstanceUID): frame.image for frame in frames}
    segmentation = [] if content.segment is None else [content.segment.segmentation]
    return [*images.values(), *segmentation]


def _region_group(
    content: ReportContent, region: FrameRegion, source: SourceSeries
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    uid, name = tracking_of(content.record.id)
    measurements: list[sr.Measurement] = []
    finding = vocabulary.SLICE_READ
    if content.segment is not None and content.mask_ijk is not None:
        finding = content.segment_codes.kind
        sliced = slice_mapping(source.volume, Plane.ACQUIRED, region.k)
        sizes = measure(content.mask_ijk, source.volume, sliced)
        measurements = _numbers(_SLICE_SIZES, sizes, region.image_regions(source))
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=uid, identifier=OUTLINE_TRACKING if measurements else name
        ),
        referenced_region=region.image_regions(source)[0],
        finding_type=coded(finding),
        measurements=measurements,
    )


def _answer_group(
    content: ReportContent, region: FrameRegion, source: SourceSeries, mapping: SliceMapping
) -> MeasurementGroup:
    uid, name = tracking_of(content.record.id)
    common: dict[str, Any] = {
        "tracking_identifier": sr.TrackingIdentifier(uid=uid, identifier=name),
        "algorithm_id": algorithm(content.record.result),
        "qualitative_evaluations": list(_evaluations(content.record)),
    }
    group: MeasurementGroup
    if content.segment is None or content.mask_ijk is None:
        frame = source_frame(source, mapping)
        images = None if frame is None else [_source_image(frame)]
        group = sr.MeasurementsAndQualitativeEvaluations(source_images=images, **common)
    else:
        sizes = measure(content.mask_ijk, source.volume, mapping)
        group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=_segment(content.segment, source),
            finding_type=coded(content.segment_codes.kind),
            finding_category=coded(content.segment_codes.category),
            finding_sites=_sites(content.segment_codes),
            measurements=_numbers(_VOLUME, sizes, region.image_regions(source)),
            **common,
        )
    group[0].ContentSequence.extend(_texts(content.record, mapping))
    return group


def _prompts(
    content: ReportContent, source: SourceSeries, mapping: SliceMapping
) -> Iterator[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    """Box and points of an acquired slice; those of another are among the details alone."""
    prompts = content.record.result.prompts
    if prompts is None or not is_acquired(mapping):
        return
    uid, name = tracking_of(content.record.id)
    box, box_setter = prompts.bbox_xyxy_slice_px, prompts.bbox_source
    if box is not None and box_setter is not None:
        evaluations = [_evaluation(vocabulary.SET_BY, vocabulary.SETTERS[box_setter])]
        yield sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking_part(uid, name, "box"),
            referenced_region=box_region(box, mapping, source),
            finding_type=coded(vocabulary.BOX),
            qualitative_evaluations=evaluations,
        )
    points = zip(
        prompts.points_xy_slice_px, prompts.point_labels, prompts.point_sources, strict=True
    )
    for number, (point, label, setter) in enumerate(points, 1):
        evaluations = [
            _evaluation(vocabulary.POINT_ROLE, vocabulary.POINT_ROLES[label]),
            _evaluation(vocabulary.SET_BY, vocabulary.SETTERS[setter]),
        ]
        yield sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking_part(uid, name, f"point {number}"),
            referenced_region=point_region(point, mapping, source),
            finding_type=coded(vocabulary.POINT),
            qualitative_evaluations=evaluations,
        )


def _tracking_part(uid: str, name: str, part: str) -> sr.TrackingIdentifier:
    return sr.TrackingIdentifier(uid=stable_uid(uid, part), identifier=f"{name} {part}")


def observers(decision: Decision | None) -> sr.ObservationContext:
    """This installation as a device, and the reader who decided, if one did."""
    device = sr.ObserverContext(
        observer_type=standard_code("DCM", "Device"),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid(),
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL_NAME,
            serial_number=__version__,
        ),
    )
    if decision is None or not decision.reader:
        return sr.ObservationContext(observer_device_context=device)
    person = sr.ObserverContext(
        observer_type=standard_code("DCM", "Person"),
        observer_identifying_attributes=sr.PersonObserverIdentifyingAttributes(
            # The caret keeps a one-part account name from being taken for a malformed PN.
            name=f"{decision.reader}^",
        ),
    )
    return sr.ObservationContext(observer_person_context=person, observer_device_context=device)


def algorithm(result: Inference) -> sr.AlgorithmIdentification:
    """TID 4019: this program, and as parameters which weights it ran."""
    models = {"reasoner": result.reasoner, "segmenter": result.segmenter}
    parameters = [
        f"{role} {key}: {value}"
        for role, model in models.items()
        if model is not None
        for key, value in dataclasses.asdict(model).items()
        if value is not None
    ]
    return sr.AlgorithmIdentification(MANUFACTURER, __version__, parameters)


def _evaluations(record: InferenceRecord) -> Iterator[sr.QualitativeEvaluation]:
    yield _evaluation(vocabulary.TARGET, vocabulary.FOUND[record.outcome])
    if record.decision is not None:
        outcome = vocabulary.OUTCOMES[record.decision.outcome]
        yield _evaluation(vocabulary.OUTCOME, outcome)


def _texts(record: InferenceRecord, mapping: SliceMapping) -> Iterator[sr.TextContentItem]:
    result, decision = record.result, record.decision
    texts = [
        (vocabulary.QUESTION, result.query),
        (vocabulary.REASONING, result.reasoning),
        (vocabulary.OUTCOME_REASON, None if decision is None else decision.reason),
        *((vocabulary.WARNING, warning) for warning in result.warnings),
        (vocabulary.DETAILS, _details(record, mapping)),
    ]
    for name, text in texts:
        if text:
            yield sr.TextContentItem(coded(name), text, sr.RelationshipTypeValues.CONTAINS)


def _details(record: InferenceRecord, mapping: SliceMapping) -> str:
    told = record.result.to_dict()
    coded_fields = (*CODED_FIELDS, "prompts") if is_acquired(mapping) else CODED_FIELDS
    result = {key: value for key, value in told.items() if key not in coded_fields}
    details: dict[str, Any] = {
        "details_version": DETAILS_VERSION,
        "inference_id": record.id,
        "task": record.task,
        "created_at": record.created_at.isoformat(),
        "result": result,
    }
    if record.target is not None:
        details["target"] = record.target.to_dict()
    if record.decision is not None:
        details["decided_at"] = record.decision.decided_at.isoformat()
    return json.dumps(details, ensure_ascii=False, sort_keys=True)


_VOLUME = (("Volume", "volume_mm3", "CubicMillimeter"),)
_SLICE_SIZES = (
    ("Area", "area_mm2", "SquareMillimeter"),
    ("LongAxis", "long_axis_mm", "Millimeter"),
    ("ShortAxis", "short_axis_mm", "Millimeter"),
)


def _numbers(
    kinds: Sequence[tuple[str, str, str]], sizes: MaskSizes, regions: Sequence[sr.ImageRegion]
) -> list[sr.Measurement]:
    """The sizes that are known, each inferred from ``regions`` (TID 320)."""
    measured = [
        sr.Measurement(
            name=standard_code("SCT", name),
            value=round(getattr(sizes, field), 3),
            unit=standard_code("UCUM", unit),
        )
        for name, field, unit in kinds
        if getattr(sizes, field) is not None
    ]
    for measurement in measured:
        below = [copy.deepcopy(region) for region in regions]
        for item in below:
            item.RelationshipType = sr.RelationshipTypeValues.INFERRED_FROM.value
        measurement[0].ContentSequence = sr.ContentSequence(below)
    return measured


def _segment(segment: ReferencedSegment, source: SourceSeries) -> sr.ReferencedSegment:
    return sr.ReferencedSegment(
        sop_class_uid=segment.segmentation.SOPClassUID,
        sop_instance_uid=segment.segmentation.SOPInstanceUID,
        segment_number=segment.number,
        source_series=sr.SourceSeriesForSegmentation(source.series_uid),
    )


def _sites(segment_codes: SegmentCodes) -> list[sr.FindingSite] | None:
    side = None if segment_codes.laterality is None else coded(segment_codes.laterality)
    place = segment_codes.region or (segment_codes.kind if side is not None else None)
    return None if place is None else [sr.FindingSite(coded(place), laterality=side)]


def _evaluation(name: ConceptCode, value: ConceptCode) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(name=coded(name), value=coded(value))


def _source_image(frame: Any) -> sr.SourceImageForMeasurementGroup:
    return sr.SourceImageForMeasurementGroup(
        frame.image.SOPClassUID, frame.image.SOPInstanceUID, frame_numbers(frame)
    )
