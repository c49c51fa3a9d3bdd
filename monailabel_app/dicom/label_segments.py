# SPDX-License-Identifier: Apache-2.0
"""What the values of a submitted label are, from what the client says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medreasoner_infer import __version__
from monailabel_app.dicom.codes import CodeTable, ConceptCode, SegmentCodes, code_table
from monailabel_app.dicom.encoding import MANUFACTURER
from monailabel_app.dicom.report import tracking_of
from monailabel_app.dicom.segmentation import SegmentSpec
from monailabel_app.labels.segments import (
    ALGORITHM_NAME,
    SEGMENT_NAME,
    answer_value,
    entries_by_value,
)
from monailabel_app.store.records import LabelSubmission, Target

_CATEGORY = "SegmentedPropertyCategoryCodeSequence"
_KIND = "SegmentedPropertyTypeCodeSequence"
_NOT_STATED = "not stated"


@dataclass(frozen=True)
class Answered:
    """The answer that a label is about: its inference and its question."""

    inference_id: str
    query: str | None


def segments_of(
    label_info: object, values: Sequence[int], answered: Answered | None
) -> list[SegmentSpec]:
    """Describe the values of a label map.

    Args:
        label_info: MONAI Label's list of entries with ``name``, ``idx`` (else an entry's place
            counts), ``color`` and maybe ``segmentAttribute``, as dcmqi takes it.
        values: those that occur.
        answered: what the label is about, if it is known.

    Codes are the client's own where it gives some, else those of the name, else unspecified.
    """
    entries = entries_by_value(label_info)
    inference_id = None if answered is None else answered.inference_id
    answer = answer_value(entries, values, inference_id)
    return [
        _segment(value, entries.get(value, {}), answered if value == answer else None)
        for value in values
    ]


def target_name(stated: str | None, query: str | None) -> str:
    """What a target is called: as the reader does, else as the question names it, else as asked."""
    if stated and stated != SEGMENT_NAME:
        return stated
    return code_table().named_by(query) or query or SEGMENT_NAME


def stated_target(submission: LabelSubmission, inference_id: str | None) -> Target | None:
    """What a label's info says of the segment that answers; of several, the marked one.

    Args:
        submission: the label.
        inference_id: the inference that it was joined to.
    """
    entries = entries_by_value(submission.info.get("label_info"))
    target = Target.of(entries.get(answer_value(entries, list(entries), inference_id) or 0))
    return None if target is None or target.name == SEGMENT_NAME else target


def _segment(value: int, entry: Mapping[str, Any], answered: Answered | None) -> SegmentSpec:
    stated = Target.of(entry) or Target(None)
    query = None if answered is None else answered.query
    name = stated.name or f"Segment {value}"
    model = None
    if answered is not None:
        name = target_name(stated.name, query)
        model = (MANUFACTURER, __version__)
    elif entry.get("model_name"):
        ours = entry["model_name"] == ALGORITHM_NAME
        model = (str(entry["model_name"]), __version__ if ours else _NOT_STATED)
    return SegmentSpec(
        value=value,
        label=name,
        codes=_codes(name, query, entry, code_table()),
        tracking=None if answered is None else tracking_of(answered.inference_id),
        model=model,
        rgb=stated.rgb,
    )


def _codes(
    name: str, query: str | None, entry: Mapping[str, Any], table: CodeTable
) -> SegmentCodes:
    attributes = entry.get("segmentAttribute")
    given = attributes if isinstance(attributes, Mapping) else {}
    category, kind = _code(given.get(_CATEGORY)), _code(given.get(_KIND))
    if category is not None and kind is not None and kind != table.unspecified.kind:
        return SegmentCodes(category, kind)
    named = table.find(name)
    asked = table.named_by(query)
    return table.find(asked) if named is table.unspecified and asked else named


def _code(item: object) -> ConceptCode | None:
    if not isinstance(item, Mapping):
        return None
    parts = [item.get(key) for key in ("CodeValue", "CodeMeaning", "CodingSchemeDesignator")]
    if not all(isinstance(part, str) and part for part in parts):
        return None
    value, meaning, scheme = (str(part) for part in parts)
    # CodeValue and the designator are SH of 16 characters, the meaning LO of 64 (PS3.3, 8.8).
    fits = len(value) <= 16 and len(scheme) <= 16 and len(meaning) <= 64
    return ConceptCode(value, meaning, scheme) if fits else None
