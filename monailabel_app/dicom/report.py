# SPDX-License-Identifier: Apache-2.0
"""Writing an answered question as a Comprehensive 3D SR (PS3.3 A.35.13), template TID 1500.

One measurement group holds the answer: question, reasoning, outcome, sizes, and the mask's segment
if there is one. Box and key points are planar regions of their own (TID 1410). What has no coded
place, such as timings and sampled answers, is one text item of JSON.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medreasoner_infer import __version__
from medreasoner_infer.imaging import SliceMapping
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
from monailabel_app.dicom.measurements import MaskSizes, measure
from monailabel_app.dicom.regions import box_region, frame_numbers, point_region, source_frame
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
CODED_FIELDS = ("query", "reasoning", "present", "prompts")


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
    """

    record: InferenceRecord
    mask_ijk: np.ndarray | None
    segment: ReferencedSegment | None
    segment_codes: SegmentCodes


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
    frame = source_frame(source, mapping)
    evidence = [source.first if frame is None else frame.image]
    if content.segment is not None:
        evidence.append(content.segment.segmentation)
    with writing_of("a DICOM report"):
        groups: list[MeasurementGroup] = [_answer_group(content, source, mapping)]
        groups += _regions(content, source, mapping)
        modality = content.record.result.modality
        procedure = vocabulary.PROCEDURES.get(modality, vocabulary.ANY_PROCEDURE)
        report = sr.MeasurementReport(
            observation_context=_observers(content.record.decision),
            procedure_reported=coded(procedure),
            imaging_measurements=groups,
        )
        written = sr.Comprehensive3DSR(
            evidence=evidence,
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
    return finished(written, "MedReasoner report")


def _answer_group(
    content: ReportContent, source: SourceSeries, mapping: SliceMapping
) -> MeasurementGroup:
    uid, name = tracking_of(content.record.id)
    common: dict[str, Any] = {
        "tracking_identifier": sr.TrackingIdentifier(uid=uid, identifier=name),
        "algorithm_id": _algorithm(content.record.result),
        "qualitative_evaluations": list(_evaluations(content.record)),
    }
    group: MeasurementGroup
    if content.segment is None or content.mask_ijk is None:
        frame = source_frame(source, mapping)
        images = None if frame is None else [_source_image(frame)]
        group = sr.MeasurementsAndQualitativeEvaluations(source_images=images, **common)
    else:
        group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=_segment(content.segment, source),
            finding_type=coded(content.segment_codes.kind),
            finding_category=coded(content.segment_codes.category),
            finding_sites=_sites(content.segment_codes),
            measurements=_sizes(measure(content.mask_ijk, source.volume, mapping)),
            **common,
        )
    group[0].ContentSequence.extend(_texts(content.record))
    return group


def _regions(
    content: ReportContent, source: SourceSeries, mapping: SliceMapping
) -> Iterator[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    prompts = content.record.result.prompts
    if prompts is None:
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


def _observers(decision: Decision | None) -> sr.ObservationContext:
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


def _algorithm(result: Inference) -> sr.AlgorithmIdentification:
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
    found = vocabulary.PRESENT if record.present else vocabulary.ABSENT
    yield _evaluation(vocabulary.TARGET, found)
    if record.decision is not None:
        outcome = vocabulary.OUTCOMES[record.decision.outcome]
        yield _evaluation(vocabulary.OUTCOME, outcome)


def _texts(record: InferenceRecord) -> Iterator[sr.TextContentItem]:
    result, decision = record.result, record.decision
    texts = [
        (vocabulary.QUESTION, result.query),
        (vocabulary.REASONING, result.reasoning),
        (vocabulary.OUTCOME_REASON, None if decision is None else decision.reason),
        *((vocabulary.WARNING, warning) for warning in result.warnings),
        (vocabulary.DETAILS, _details(record)),
    ]
    for name, text in texts:
        if text:
            yield sr.TextContentItem(coded(name), text, sr.RelationshipTypeValues.CONTAINS)


def _details(record: InferenceRecord) -> str:
    told = record.result.to_dict()
    result = {key: value for key, value in told.items() if key not in CODED_FIELDS}
    details: dict[str, Any] = {
        "details_version": DETAILS_VERSION,
        "inference_id": record.id,
        "task": record.task,
        "created_at": record.created_at.isoformat(),
        "result": result,
    }
    if record.decision is not None:
        details["decided_at"] = record.decision.decided_at.isoformat()
    return json.dumps(details, ensure_ascii=False, sort_keys=True)


def _sizes(sizes: MaskSizes) -> list[sr.Measurement]:
    measured = (
        ("Volume", sizes.volume_mm3, "CubicMillimeter"),
        ("Area", sizes.area_mm2, "SquareMillimeter"),
        ("LongAxis", sizes.long_axis_mm, "Millimeter"),
        ("ShortAxis", sizes.short_axis_mm, "Millimeter"),
    )
    return [
        sr.Measurement(
            name=standard_code("SCT", name), value=round(value, 3), unit=standard_code("UCUM", unit)
        )
        for name, value, unit in measured
        if value is not None
    ]


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
