# SPDX-License-Identifier: Apache-2.0
"""What the values of a submitted label are, from what the client says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

_CATEGORY = "SegmentedPropertyCategoryCodeSequence"
_KIND = "SegmentedPropertyTypeCodeSequence"
_NOT_STATED = "not stated"


def segments_of(
    label_info: object, values: Sequence[int], inference_id: str | None
) -> list[SegmentSpec]:
    """Describe the values of a label map.

    Args:
        label_info: MONAI Label's list of entries with ``name``, ``idx`` (else an entry's place
            counts) and maybe ``segmentAttribute``, as dcmqi takes it.
        values: those that occur.
        inference_id: the inference that the label answers, if it is known.

    Codes are the client's own where it gives some, else those of the name, else unspecified.
    """
    entries = entries_by_value(label_info)
    answer = answer_value(entries, values, inference_id)
    return [
        _segment(value, entries.get(value, {}), value == answer, inference_id) for value in values
    ]


def _segment(
    value: int, entry: Mapping[str, Any], is_answer: bool, inference_id: str | None
) -> SegmentSpec:
    unnamed = SEGMENT_NAME if is_answer else f"Segment {value}"
    name = str(entry.get("name") or unnamed)
    model = None
    if is_answer:
        model = (MANUFACTURER, __version__)
    elif entry.get("model_name"):
        ours = entry["model_name"] == ALGORITHM_NAME
        model = (str(entry["model_name"]), __version__ if ours else _NOT_STATED)
    return SegmentSpec(
        value=value,
        label=name,
        codes=_codes(name, entry, code_table()),
        tracking=tracking_of(inference_id) if is_answer and inference_id is not None else None,
        model=model,
    )


def _codes(name: str, entry: Mapping[str, Any], table: CodeTable) -> SegmentCodes:
    attributes = entry.get("segmentAttribute")
    given = attributes if isinstance(attributes, Mapping) else {}
    category, kind = _code(given.get(_CATEGORY)), _code(given.get(_KIND))
    if category is None or kind is None or kind == table.unspecified.kind:
        return table.find(name)
    return SegmentCodes(category, kind)


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
