# SPDX-License-Identifier: Apache-2.0
"""Coded concepts of our reports: DICOM's where there is one, else of our own coding scheme."""

from __future__ import annotations

from medreasoner_infer import __version__
from medreasoner_infer.types import Outcome as AnswerOutcome
from monailabel_app.common.extras import needs_extra
from monailabel_app.dicom.codes import ConceptCode
from monailabel_app.store.records import Outcome

with needs_extra("highdicom", "pacs"):
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

# PS3.16, 8: private schemes begin with 99 and are identified in the object (PS3.3 C.12.1).
SCHEME = "99MEDREASONER"


def _own(value: str, meaning: str) -> ConceptCode:
    return ConceptCode(value, meaning, SCHEME)


QUESTION = _own("question", "Clinical question")
REASONING = _own("reasoning", "Reasoning of the model")
DETAILS = _own("details", "Technical details (JSON)")
WARNING = _own("warning", "Warning to the reader")
TARGET = _own("target", "Target on the slice")
OUTCOME = _own("outcome", "Outcome")
OUTCOME_REASON = _own("outcome-reason", "Reason of the outcome")
POINT_ROLE = _own("point-role", "Role of the point")
SET_BY = _own("set-by", "Set by")

BOX = _own("box", "Bounding box of the target")
POINT = _own("point", "Key point")
SLICE_READ = _own("slice-read", "Slice that was read")
REPLACED = _own("replaced", "Replaced by this version")

# What the answer says of the target.
FOUND: dict[AnswerOutcome, ConceptCode] = {
    "present": ConceptCode("52101004", "Present"),
    "absent": ConceptCode("2667000", "Absent"),
    "not_understood": _own("not-understood", "Question not understood"),
}
# What the reader made of it.
OUTCOMES = {
    Outcome.ACCEPTED: _own("accepted", "Accepted as it was"),
    Outcome.EDITED: _own("edited", "Edited by the reader"),
    Outcome.REJECTED: _own("rejected", "Rejected by the reader"),
}
POINT_ROLES = {
    1: _own("inside", "Inside the target"),
    0: _own("outside", "Outside the target"),
}
SETTERS = {
    "reasoner": _own("reasoner", "Reasoner"),
    "reader": _own("reader", "Reader"),
}
# CID 29 modality to a procedure of CID 100; the general procedure where none fits.
PROCEDURES = {
    "CT": ConceptCode("77477000", "Computed tomography"),
    "MR": ConceptCode("113091000", "Magnetic resonance imaging"),
    "US": ConceptCode("16310003", "Ultrasonography"),
    "CR": ConceptCode("168537006", "Plain radiography"),
    "DX": ConceptCode("168537006", "Plain radiography"),
}
ANY_PROCEDURE = ConceptCode("363679005", "Imaging procedure")


def coding_schemes() -> list[CodingSchemeIdentificationItem]:
    """The identification of our coding scheme, which every result carries that uses it."""
    return [
        CodingSchemeIdentificationItem(
            designator=SCHEME,
            name="MedReasoner concepts",
            version=__version__,
            responsible_organization="MedReasoner for MONAI Label",
        )
    ]
