# SPDX-License-Identifier: Apache-2.0
"""How the segment of a mask is named and coded, and which segment of a label answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LABEL_VALUE = 1
# The question names a target only implicitly, and an organ taken from the reasoning could be
# wrong; the name therefore claims nothing.
SEGMENT_NAME = "MedReasoner target"
SEGMENT_RGB = (230, 159, 0)
ALGORITHM_NAME = "MedReasoner"

# DICOM PS3.16 CID 7150 and CID 7166: tissue that is not specified further.
_TISSUE = {
    "CodeValue": "85756007",
    "CodingSchemeDesignator": "SCT",
    "CodeMeaning": "Tissue",
}


def segment_info(inference_id: str | None = None) -> dict[str, Any]:
    """One entry of MONAI Label's ``label_info``, with the attributes that dcmqi writes.

    ``inference_id`` lets a label that is submitted with this entry find its inference.
    """
    info: dict[str, Any] = {
        "name": SEGMENT_NAME,
        "idx": LABEL_VALUE,
        "color": list(SEGMENT_RGB),
        "model_name": ALGORITHM_NAME,
        "description": "Target of a clinical question, unspecified",
        "segmentAttribute": {
            "labelID": LABEL_VALUE,
            "SegmentLabel": SEGMENT_NAME,
            "SegmentDescription": "Target of a clinical question, unspecified",
            "SegmentAlgorithmType": "SEMIAUTOMATIC",
            "SegmentAlgorithmName": ALGORITHM_NAME,
            "SegmentedPropertyCategoryCodeSequence": _TISSUE,
            "SegmentedPropertyTypeCodeSequence": _TISSUE,
            "recommendedDisplayRGBValue": list(SEGMENT_RGB),
        },
    }
    if inference_id is not None:
        info["inference_id"] = inference_id
    return info


def entries_by_value(label_info: object) -> dict[int, Mapping[str, Any]]:
    """MONAI Label's ``label_info`` by label value: an entry's ``idx``, else its place from 1."""
    entries: dict[int, Mapping[str, Any]] = {}
    for place, entry in enumerate(label_info if isinstance(label_info, list) else [], start=1):
        if isinstance(entry, Mapping):
            index = entry.get("idx")
            entries[index if isinstance(index, int) else place] = entry
    return entries


def answer_value(
    entries: Mapping[int, Mapping[str, Any]], values: Sequence[int], inference_id: str | None
) -> int | None:
    """The value that answers the question: the only one, or the marked one.

    Args:
        entries: as :func:`entries_by_value` gives them.
        values: those that occur in the label.
        inference_id: the inference that the label answers, if it is known.
    """
    if inference_id is None:
        return None
    if len(values) == 1:
        return values[0]
    for value in values:
        entry = entries.get(value, {})
        if entry.get("inference_id") == inference_id or entry.get("name") == SEGMENT_NAME:
            return value
    return None
