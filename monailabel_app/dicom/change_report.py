# SPDX-License-Identifier: Apache-2.0
"""A comparison of two examinations as a Comprehensive SR (PS3.3 A.35.3), template TID 1500.

Four measurement groups of one tracking identifier: where the target is on the current images, or
the slice on which it was not found; the target in the current and in the prior examination, each
with its time point, segment and sizes; and the change. The first one is what viewers draw: OHIF
reads no tracked finding without an SCOORD, and of a number the first item below it only. All
concepts are DICOM's and SNOMED's: by our own coding scheme, reports of single answers are known.

The report lies in the current study. Images and segmentation of the prior one are *Pertinent Other
Evidence* (PS3.3 C.17.2.3), as they were acquired for another procedure.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medreasoner_infer.change import ChangeKind, SizeChange, Uncertain
from medreasoner_infer.priors import Comparison
from medreasoner_infer.priors.sizes import MM3_PER_ML
from medreasoner_infer.priors.telling import describe_alignment, shown_date
from medreasoner_infer.result import InferenceResult
from monailabel_app.common.extras import needs_extra
from monailabel_app.dicom import vocabulary
from monailabel_app.dicom.encoding import (
    REPORT_SERIES_NUMBER,
    InstanceIds,
    coded,
    device_attributes,
    finished,
    series_description,
    stable_uid,
    standard_code,
    to_bytes,
    writing_of,
)
from monailabel_app.dicom.label_segments import Answered, segments_of
from monailabel_app.dicom.regions import (
    FrameRegion,
    frame_numbers,
    mask_region,
    slice_region,
)
from monailabel_app.dicom.report import MeasurementGroup, algorithm, observers, tracking_of
from monailabel_app.dicom.segmentation import SegmentSpec, write_segmentation
from monailabel_app.dicom.source import SourceSeries
from monailabel_app.labels.segments import LABEL_VALUE, segment_info

with needs_extra("highdicom", "pacs"):
    from highdicom import sr

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

STATE = "compared"
_CHANGES: dict[ChangeKind, str] = {
    "larger": "IncreaseInSize",
    "smaller": "DecreaseInSize",
    "within_uncertainty": "NoSignificantChangesInTheFinding",
    "new": "NewFinding",
}


@dataclass(frozen=True, eq=False)
class _TimePoint:
    """One of the two examinations, with what was found in it."""

    name: str
    order: int
    date: str
    result: InferenceResult
    source: SourceSeries
    segment: SegmentSpec
    segmentation: Dataset | None
    region: FrameRegion

    @property
    def evidence(self) -> list[Dataset]:
        """The image with the region, and the segmentation."""
        image = self.source.frames[self.region.k].image
        return [image, *([] if self.segmentation is None else [self.segmentation])]


def change_documents(
    comparison: Comparison, current: SourceSeries, prior: SourceSeries
) -> dict[str, bytes]:
    """The DICOM objects of a comparison, encoded; equal comparisons have equal UIDs.

    Args:
        comparison: of the two.
        current: the series of the current examination.
        prior: that of the prior one.

    Returns:
        ``report``, and ``segmentation_current`` and ``segmentation_prior`` of masks that are not
        empty.

    Raises:
        UnusableSeriesError: the images' headers do not allow it.
    """
    told = comparison.told
    points = (
        _time_point("current", 2, told.current_date, comparison, current),
        _time_point("prior", 1, told.prior_date, comparison, prior),
    )
    made = {
        f"segmentation_{point.name}": point.segmentation
        for point in points
        if point.segmentation is not None
    }
    made["report"] = _report(comparison, points)
    return {name: to_bytes(dataset) for name, dataset in made.items()}


def _ids(comparison: Comparison, name: str) -> InstanceIds:
    both = comparison.current.inference_id, comparison.prior.inference_id
    series, instance = (stable_uid("comparison", *both, name, of) for of in ("series", "instance"))
    return InstanceIds(series, instance)


def _time_point(
    name: str, order: int, date: str, comparison: Comparison, source: SourceSeries
) -> _TimePoint:
    result = comparison.current if name == "current" else comparison.prior
    # One target in both: segments and groups are tracked by one identifier.
    answered = Answered(comparison.current.inference_id, comparison.current.query)
    (segment,) = segments_of([segment_info()], [LABEL_VALUE], answered)
    segment = replace(segment, is_draft=True)
    segmentation = None
    if result.mask_ijk.any():
        ids = _ids(comparison, f"segmentation {name}")
        segmentation = write_segmentation(result.mask_ijk, [segment], source, ids, state=STATE)
    mapping = result.mapping(source.volume)
    region = mask_region(result.mask_ijk, mapping) or slice_region(mapping)
    return _TimePoint(name, order, date, result, source, segment, segmentation, region)


def _report(comparison: Comparison, points: tuple[_TimePoint, _TimePoint]) -> Dataset:
    current, prior = points
    change = comparison.told.change
    sizes = (change.volume_ml, change.long_axis_mm, change.short_axis_mm)
    ids = _ids(comparison, "report")
    with writing_of("a DICOM report"):
        groups = [
            _region_group(comparison, current),
            _examination_group(comparison, current, [size.after for size in sizes]),
            _examination_group(comparison, prior, [size.before for size in sizes]),
            _change_group(comparison, current, prior),
        ]
        modality = comparison.current.modality
        report = sr.MeasurementReport(
            observation_context=observers(None),
            procedure_reported=coded(vocabulary.PROCEDURES.get(modality, vocabulary.ANY_PROCEDURE)),
            imaging_measurements=groups,
        )
        written = sr.ComprehensiveSR(
            evidence=[*current.evidence, *prior.evidence],
            content=report[0],
            series_instance_uid=ids.series_uid,
            series_number=REPORT_SERIES_NUMBER,
            sop_instance_uid=ids.instance_uid,
            instance_number=ids.version,
            is_complete=True,
            **device_attributes(),
        )
    _set_other_evidence(written, current.source.study_uid)
    return finished(written, series_description([current.segment.label], STATE))


def _region_group(
    comparison: Comparison, current: _TimePoint
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(comparison),
        referenced_region=current.region.image_regions(current.source)[0],
        finding_type=coded(current.segment.codes.kind),
        finding_category=coded(current.segment.codes.category),
    )


def _examination_group(
    comparison: Comparison, point: _TimePoint, sizes: Sequence[Uncertain | None]
) -> MeasurementGroup:
    """The target at one time point, by its segment, or by the image on which it is not."""
    evaluation = sr.QualitativeEvaluation(
        name=standard_code("DCM", "Finding"), value=_found_code(point.result)
    )
    common: dict[str, Any] = {
        "tracking_identifier": _tracking(comparison),
        "time_point_context": sr.TimePointContext(
            time_point=f"{point.name} examination {shown_date(point.date)}".strip(),
            time_point_order=point.order,
        ),
        "finding_type": coded(point.segment.codes.kind),
        "finding_category": coded(point.segment.codes.category),
        "algorithm_id": algorithm(point.result),
        "qualitative_evaluations": [evaluation],
    }
    if point.segmentation is None:
        return sr.MeasurementsAndQualitativeEvaluations(source_images=[_image(point)], **common)
    segment = sr.ReferencedSegment(
        sop_class_uid=point.segmentation.SOPClassUID,
        sop_instance_uid=point.segmentation.SOPInstanceUID,
        segment_number=1,
        source_series=sr.SourceSeriesForSegmentation(point.source.series_uid),
    )
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        referenced_segment=segment,
        measurements=list(_sizes(sizes, point)),
        **common,
    )


def _change_group(
    comparison: Comparison, current: _TimePoint, prior: _TimePoint
) -> sr.MeasurementsAndQualitativeEvaluations:
    told = comparison.told
    keyword = _CHANGES.get(told.change.kind)
    evaluations = None
    if keyword is not None:
        name = standard_code("DCM", "ComparisonToPreviousFindings")
        evaluations = [sr.QualitativeEvaluation(name=name, value=standard_code("SCT", keyword))]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(comparison),
        finding_type=coded(current.segment.codes.kind),
        finding_category=coded(current.segment.codes.category),
        measurements=list(_differences(told.change.volume_ml, told.change.long_axis_mm, current)),
        qualitative_evaluations=evaluations,
        source_images=[_image(current), _image(prior)],
    )
    texts = (
        told.change.statement,
        f"Question: {comparison.current.query}",
        describe_alignment(told.alignment),
        *told.alignment.warnings,
        *told.change.cautions,
        "Not reviewed. Not for clinical use.",
    )
    comment = standard_code("DCM", "Comment")
    contains = sr.RelationshipTypeValues.CONTAINS
    group[0].ContentSequence.extend(sr.TextContentItem(comment, text, contains) for text in texts)
    return group


def _sizes(sizes: Sequence[Uncertain | None], point: _TimePoint) -> Iterator[sr.Measurement]:
    kinds = (
        ("Volume", "CubicMillimeter", MM3_PER_ML),
        *((axis, "Millimeter", 1.0) for axis in ("LongAxis", "ShortAxis")),
    )
    for size, (name, unit, factor) in zip(sizes, kinds, strict=True):
        if size is not None:
            values = size.value * factor, size.uncertainty * factor
            yield _number(standard_code("SCT", name), values, unit, point)


def _differences(
    volume: SizeChange, long_axis: SizeChange, current: _TimePoint
) -> Iterator[sr.Measurement]:
    """*Difference in size* of volume (mm3) and long axis (mm), *Fractional change* of volume."""
    difference = standard_code("cid6133", "DifferenceInSize")
    for size, unit, factor in (
        (volume, "CubicMillimeter", MM3_PER_ML),
        (long_axis, "Millimeter", 1.0),
    ):
        if size.difference is not None and size.uncertainty is not None:
            values = size.difference * factor, size.uncertainty * factor
            yield _number(difference, values, unit, current)
    if volume.percent is not None and volume.percent_uncertainty is not None:
        name = standard_code("DCM", "FractionalChange")
        yield _number(name, (volume.percent, volume.percent_uncertainty), "Percent", current)


def _number(
    name: sr.CodedConcept, value_uncertainty: tuple[float, float], unit: str, point: _TimePoint
) -> sr.Measurement:
    """A number with its range of uncertainty (CID 225), inferred from the outline."""
    value, uncertainty = (round(number, 3) for number in value_uncertainty)
    units = standard_code("UCUM", unit)
    measurement = sr.Measurement(name=name, value=value, unit=units)
    within = sr.NumContentItem(
        standard_code("SCT", "RangeOfMeasurementUncertainty"),
        uncertainty,
        units,
        relationship_type=sr.RelationshipTypeValues.HAS_PROPERTIES,
    )
    below = [copy.deepcopy(region) for region in point.region.image_regions(point.source)]
    for item in below:
        item.RelationshipType = sr.RelationshipTypeValues.INFERRED_FROM.value
    measurement[0].ContentSequence = sr.ContentSequence([*below, within])
    return measurement


def _found_code(result: InferenceResult) -> sr.CodedConcept:
    if result.outcome == "not_understood":
        return standard_code("SCT", "Unknown")
    return coded(vocabulary.FOUND[result.outcome])


def _tracking(comparison: Comparison) -> sr.TrackingIdentifier:
    uid, name = tracking_of(comparison.current.inference_id)
    return sr.TrackingIdentifier(uid=uid, identifier=name)


def _image(point: _TimePoint) -> sr.SourceImageForMeasurementGroup:
    frame = point.source.frames[point.region.k]
    return sr.SourceImageForMeasurementGroup(
        frame.image.SOPClassUID, frame.image.SOPInstanceUID, frame_numbers(frame)
    )


def _set_other_evidence(written: Dataset, study_uid: str) -> None:
    """Only what is of the current study was made for its procedure."""
    items = list(written.CurrentRequestedProcedureEvidenceSequence)
    own = [item for item in items if item.StudyInstanceUID == study_uid]
    others = [item for item in items if item.StudyInstanceUID != study_uid]
    written.CurrentRequestedProcedureEvidenceSequence = own
    if others:
        written.PertinentOtherEvidenceSequence = others
