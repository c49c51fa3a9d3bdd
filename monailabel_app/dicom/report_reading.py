# SPDX-License-Identifier: Apache-2.0
"""Reading a report of ours back into the record that it was written from.

The tree is walked by concept names, not by highdicom's ``srread``: that builds and checks the whole
template (35 ms), refuses a report in which an archive has changed anything, and still leaves our
own text items to be looked up one by one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medreasoner_infer.errors import MalformedInferenceError
from medreasoner_infer.imaging import SliceMapping
from medreasoner_infer.prompting import SourcedPrompt, record_prompt
from medreasoner_infer.result import Inference, PromptRecord
from medreasoner_infer.types import XY, XYXY, SlicePrompt
from monailabel_app.dicom import vocabulary
from monailabel_app.dicom.codes import ConceptCode
from monailabel_app.dicom.errors import UnreadableResultError
from monailabel_app.dicom.regions import read_region
from monailabel_app.dicom.report import DETAILS_VERSION
from monailabel_app.dicom.source import SourceSeries
from monailabel_app.store.records import Decision, InferenceRecord, Target

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_FINDING = ConceptCode("121071", "Finding", "DCM")
_MEASUREMENTS = ConceptCode("126010", "Imaging Measurements", "DCM")
_REFERENCED_SEGMENT = ConceptCode("121191", "Referenced Segment", "DCM")
_PERSON_OBSERVER_NAME = ConceptCode("121008", "Person Observer Name", "DCM")


@dataclass(frozen=True)
class SegmentReference:
    """The SOP Instance UID of a Segmentation, and the number of a segment in it."""

    instance_uid: str
    number: int


@dataclass(frozen=True)
class ReportHeader:
    """What a report says of itself before the images are at hand.

    ``version`` counts the versions of the record; ``source_uids`` are the SOP Instance UIDs of the
    images that it refers to.
    """

    inference_id: str
    version: int
    study_uid: str
    series_uid: str
    instance_uid: str
    source_uids: tuple[str, ...]
    segment: SegmentReference | None


def is_report(dataset: Dataset) -> bool:
    """Whether a DICOM object is a report of ours, by the coding scheme that it identifies."""
    if dataset.get("Modality") != "SR":
        return False
    schemes = dataset.get("CodingSchemeIdentificationSequence") or ()
    return any(str(item.CodingSchemeDesignator) == vocabulary.SCHEME for item in schemes)


def read_header(report: Dataset) -> ReportHeader:
    """Read what identifies a report.

    Raises:
        UnreadableResultError: it is damaged, or of a version that is not known here.
    """
    details = _details(report)
    group = _answer(report)
    reference = _child(group, _REFERENCED_SEGMENT)
    segment = None
    if reference is not None:
        item = reference.ReferencedSOPSequence[0]
        segment = SegmentReference(
            str(item.ReferencedSOPInstanceUID), int(item.ReferencedSegmentNumber)
        )
    return ReportHeader(
        inference_id=details["inference_id"],
        version=int(report.InstanceNumber),
        study_uid=str(report.StudyInstanceUID),
        series_uid=str(report.SeriesInstanceUID),
        instance_uid=str(report.SOPInstanceUID),
        source_uids=tuple(_evidence_uids(report, segment)),
        segment=segment,
    )


def source_series_uid(report: Dataset) -> str:
    """The series that the report's images belong to, from its evidence (PS3.3 C.17.2).

    Raises:
        UnreadableResultError: it names none.
    """
    segment = read_header(report).segment
    for series, instance_uid in _evidence(report):
        if segment is None or instance_uid != segment.instance_uid:
            return str(series.SeriesInstanceUID)
    raise UnreadableResultError("The report names no source image; it is damaged.")


def read_report(report: Dataset, source: SourceSeries) -> InferenceRecord:
    """The record that the report was written from; box and points to the precision of FL.

    Raises:
        UnreadableResultError: it is damaged, of an unknown version, or about another series.
    """
    details, group = _details(report), _answer(report)
    outcome = _key_of(vocabulary.FOUND, _code(group, vocabulary.TARGET))
    told = {
        **details["result"],
        "query": _text(group, vocabulary.QUESTION),
        "reasoning": _text(group, vocabulary.REASONING),
        "present": outcome == "present",
        "outcome": outcome,
    }
    told.setdefault("prompts", None)
    try:
        result = Inference.from_dict(told)
    except MalformedInferenceError as error:
        raise UnreadableResultError(f"The report is damaged. {error}") from error
    # Those of a reformatted plane are among the details, as no image holds them.
    prompts = result.prompts or _prompts(report, result.mapping(source.volume), source)
    return InferenceRecord(
        id=details["inference_id"],
        created_at=datetime.fromisoformat(details["created_at"]),
        task=details["task"],
        image_id=source.series_uid,
        present=result.present,
        result=dataclasses.replace(result, prompts=prompts),
        mask_sha256=None,
        mask_file=None,
        study_uid=source.study_uid,
        decision=_decision(report, group, details),
        target=Target.of(details.get("target")),
    )


def _details(report: Dataset) -> dict[str, Any]:
    text = _text(_answer(report), vocabulary.DETAILS)
    try:
        details = json.loads(text or "")
    except json.JSONDecodeError as error:
        raise UnreadableResultError(
            "The report's technical details are damaged; it may have been edited elsewhere."
        ) from error
    if details.get("details_version") != DETAILS_VERSION:
        raise UnreadableResultError(
            f"The report's details are of version {details.get('details_version')}, known is "
            f"{DETAILS_VERSION}; read it with the release that wrote it."
        )
    return details


def _answer(report: Dataset) -> Dataset:
    """The measurement group that holds the answer."""
    for group in _groups(report):
        if _child(group, vocabulary.DETAILS) is not None:
            return group
    raise UnreadableResultError(
        "The report holds no answer of MedReasoner; it may be another program's."
    )


def _groups(report: Dataset) -> Iterator[Dataset]:
    for item in report.get("ContentSequence") or ():
        if _is(item, _MEASUREMENTS):
            yield from item.get("ContentSequence") or ()


def _prompts(report: Dataset, mapping: SliceMapping, source: SourceSeries) -> PromptRecord | None:
    box: XYXY | None = None
    box_setter: str | None = None
    points: list[XY] = []
    labels: list[int] = []
    setters: list[str] = []
    for group in _groups(report):
        finding = _code(group, _FINDING)
        if finding not in (vocabulary.BOX.value, vocabulary.POINT.value):
            continue
        vertices = read_region(_region_item(group), mapping, source)
        setter = _key_of(vocabulary.SETTERS, _code(group, vocabulary.SET_BY))
        if finding == vocabulary.BOX.value:
            (x1, y1), (x2, y2) = vertices.min(axis=0), vertices.max(axis=0)
            box, box_setter = (float(x1), float(y1), float(x2), float(y2)), setter
        else:
            points.append((float(vertices[0, 0]), float(vertices[0, 1])))
            labels.append(_key_of(vocabulary.POINT_ROLES, _code(group, vocabulary.POINT_ROLE)))
            setters.append(setter)
    if box is None and not points:
        return None
    prompt = SlicePrompt(box, tuple(points), tuple(labels))
    return record_prompt(SourcedPrompt(prompt, box_setter, tuple(setters)), mapping)


def _region_item(group: Dataset) -> Dataset:
    for item in group.ContentSequence:
        if item.ValueType in ("SCOORD", "SCOORD3D"):
            return item
    raise UnreadableResultError("A region of the report has no coordinates; it is damaged.")


def _decision(report: Dataset, group: Dataset, details: dict[str, Any]) -> Decision | None:
    value = _code(group, vocabulary.OUTCOME)
    if value is None:
        return None
    observer = next(
        (item for item in report.ContentSequence if _is(item, _PERSON_OBSERVER_NAME)), None
    )
    return Decision(
        _key_of(vocabulary.OUTCOMES, value),
        _text(group, vocabulary.OUTCOME_REASON),
        datetime.fromisoformat(details["decided_at"]),
        None if observer is None else str(observer.PersonName).rstrip("^"),
    )


def _evidence_uids(report: Dataset, segment: SegmentReference | None) -> Iterator[str]:
    for _, instance_uid in _evidence(report):
        if segment is None or instance_uid != segment.instance_uid:
            yield instance_uid


def _evidence(report: Dataset) -> Iterator[tuple[Dataset, str]]:
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in report.get(keyword) or ():
            for series in study.ReferencedSeriesSequence:
                for item in series.ReferencedSOPSequence:
                    yield series, str(item.ReferencedSOPInstanceUID)


def _is(item: Dataset, concept: ConceptCode) -> bool:
    names = item.get("ConceptNameCodeSequence")
    if not names:
        return False
    name = names[0]
    return (str(name.get("CodeValue")), str(name.get("CodingSchemeDesignator"))) == (
        concept.value,
        concept.scheme,
    )


def _child(group: Dataset, concept: ConceptCode) -> Dataset | None:
    items = group.get("ContentSequence") or ()
    return next((item for item in items if _is(item, concept)), None)


def _text(group: Dataset, concept: ConceptCode) -> str | None:
    item = _child(group, concept)
    return None if item is None else str(item.TextValue)


def _code(group: Dataset, concept: ConceptCode) -> str | None:
    item = _child(group, concept)
    return None if item is None else str(item.ConceptCodeSequence[0].CodeValue)


def _key_of(concepts: dict[Any, ConceptCode], value: str | None) -> Any:
    for key, concept in concepts.items():
        if concept.value == value:
            return key
    raise UnreadableResultError(f"The report uses the unknown code {value!r}; it is damaged.")
