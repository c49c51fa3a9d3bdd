# SPDX-License-Identifier: Apache-2.0
"""Values of the images' headers that results only repeat: a malformed one must not stop a result.

A value is repaired where it can mean one thing only, and else left empty or out. What a PACS finds
a patient or study by is repeated as the images have it, so that a result stays beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging.boundary import reading
from monailabel_app.dicom.text import CUT

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

# Attributes at the root of the Patient, General Study, Patient Study, Clinical Trial Subject and
# Clinical Trial Study modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.1.3 and C.7.2.3) whose tags lie
# in other groups than those of _GROUPS, and those that a segmentation repeats of the image.
_KEYWORDS = (
    "StudyDate", "StudyTime", "AccessionNumber", "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName", "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName", "ConsultingPhysicianIdentificationSequence", "StudyDescription",
    "ProcedureCodeSequence", "PhysiciansOfRecord", "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy", "PhysiciansReadingStudyIdentificationSequence",
    "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "ReferencedStudySequence",
    "ReferencedPatientSequence", "ReferencedPatientPhotoSequence", "StudyID", "RequestingService",
    "RequestingServiceCodeSequence", "ReasonForPerformedProcedureCodeSequence",
    "ReasonForVisit", "ReasonForVisitCodeSequence", "PatientOrientation",
    "PositionReferenceIndicator", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)  # fmt: skip
# Repeated by libraries where the compression was lossy, though many images do not tell them.
LOSSY_DETAILS = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
_GROUPS = (0x0010, 0x0012, 0x0038)
_FOUND_BY = frozenset({"PatientID", "PatientName", "AccessionNumber", "StudyID"})
# Type 2: to be there, but possibly empty. Others are left out.
_KEPT_EMPTY = frozenset({
    *_FOUND_BY, "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "ReferringPhysicianName",
})  # fmt: skip
# Characters of text that nothing is parsed from (PS3.5, 6.2).
_MOST_CHARACTERS = {"LO": 64, "SH": 16, "ST": 1024, "LT": 10240}
_DATE, _TIME = re.compile(r"\d{8}"), re.compile(r"\d\d(\d\d(\d\d(\.\d{1,6})?)?)?")
_UNAMBIGUOUS_DATE = re.compile(r"(\d{4})[-./](\d\d)[-./](\d\d)")
_DECIMAL_CHARACTERS = 16


class MalformedValueError(InputError):
    """A value is not of its attribute's representation, and cannot be repaired."""


def mend_copied(header: Dataset) -> frozenset[str]:
    """Repair, empty or remove the malformed values of a header that results repeat, in place.

    Returns:
        A sentence for each attribute that was mended, without its value.
    """
    keywords = [_keyword(tag) for tag in header.keys()]  # noqa: SIM118 - elements are not parsed
    mended = [_mend(header, keyword) for keyword in keywords if keyword is not None]
    if header.get("LossyImageCompression") == "01":
        for keyword in LOSSY_DETAILS:
            header.setdefault(keyword, "")
    return frozenset(said for said in mended if said is not None)


def _keyword(tag: Any) -> str | None:
    from pydicom.datadict import keyword_for_tag

    keyword = keyword_for_tag(tag)
    return keyword if keyword and (tag.group in _GROUPS or keyword in _KEYWORDS) else None


def _mend(header: Dataset, keyword: str) -> str | None:
    from pydicom.datadict import dictionary_description, dictionary_VR

    name, vr = dictionary_description(keyword), dictionary_VR(keyword)
    try:
        with reading("malformed", MalformedValueError):
            value = _sound(header[keyword], keyword, vr)
            if value is None:
                return None
            header.add_new(keyword, vr, value)
            return f"{name} is written against the standard in the images; it was repaired."
    except MalformedValueError:
        del header[keyword]
        if keyword in _KEPT_EMPTY:
            setattr(header, keyword, "")
        return f"{name} is malformed in the images; the result leaves it empty or out."


def _sound(element: DataElement, keyword: str, vr: str) -> Any | None:
    """The value repaired, ``None`` where it can stay.

    Raises:
        MalformedValueError: it cannot be repaired.
    """
    if vr == "SQ":
        if vr != element.VR:
            raise MalformedValueError("no sequence")
        for item in element.value:
            for inner in item:
                _sound(inner, inner.keyword, inner.VR)
        return None
    if element.is_empty:
        return None
    given = [str(value) for value in element.value] if element.VM > 1 else [str(element.value)]
    if keyword in _FOUND_BY:
        # A backslash in a name makes several, which no library writes back.
        return " ".join(given) if len(given) > 1 and vr == "PN" else None
    if len(given) > 1 and _takes_one(keyword):
        if vr not in _MOST_CHARACTERS:
            raise MalformedValueError("several values where one belongs")
        given = [" / ".join(given)]
    sound = [_REPAIRS.get(vr, _validated)(value, vr) for value in given]
    is_as_given = sound == given and len(given) == element.VM
    if is_as_given and vr == element.VR:
        return None
    return sound[0] if len(sound) == 1 else sound


def _takes_one(keyword: str) -> bool:
    from pydicom.datadict import dictionary_VM

    return bool(keyword) and dictionary_VM(keyword) == "1"


def _validated(value: str, vr: str) -> Any:
    """A value of any other representation, checked by pydicom."""
    from pydicom.config import RAISE
    from pydicom.valuerep import INT_VR, validate_value

    typed = int(value) if vr in INT_VR - {"IS"} else value
    if vr not in ("FD", "FL"):
        validate_value(vr, typed, RAISE)
    return value


def _text(value: str, vr: str) -> str:
    most = _MOST_CHARACTERS[vr]
    return value if len(value) <= most else value[: most - len(CUT)] + CUT


def _date(value: str, vr: str) -> str:
    from pydicom.valuerep import DA

    found = _UNAMBIGUOUS_DATE.fullmatch(value.strip())
    digits = "".join(found.groups()) if found else value.strip()
    if not _DATE.fullmatch(digits):
        raise MalformedValueError("no date")
    DA(digits)
    return digits


def _time(value: str, vr: str) -> str:
    from pydicom.valuerep import TM

    digits = value.strip().replace(":", "")
    if not _TIME.fullmatch(digits):
        raise MalformedValueError("no time")
    TM(digits)
    return digits


def _decimal(value: str, vr: str) -> str:
    number = value.strip().replace(",", ".")
    if len(number) > _DECIMAL_CHARACTERS:
        number = f"{float(number):.9g}"
    return str(_validated(number, vr))


def _age(value: str, vr: str) -> str:
    found = re.fullmatch(r"(\d{1,3})([DWMY])", value.strip().upper())
    return str(_validated(f"{int(found[1]):03d}{found[2]}" if found else value, vr))


def _code(value: str, vr: str) -> str:
    return str(_validated(value.strip().upper(), vr))


_REPAIRS: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(_MOST_CHARACTERS, _text),
    "DA": _date, "TM": _time, "DS": _decimal, "AS": _age, "CS": _code,
}  # fmt: skip
