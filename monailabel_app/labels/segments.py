# SPDX-License-Identifier: Apache-2.0
"""How the one segment of a mask is named and coded."""

from __future__ import annotations

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
