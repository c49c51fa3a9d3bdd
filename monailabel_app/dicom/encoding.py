# SPDX-License-Identifier: Apache-2.0
"""What every DICOM object that we write has in common."""

from __future__ import annotations

import io
import logging
import platform
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from medreasoner_infer import __version__
from monailabel_app.common.extras import needs_extra
from monailabel_app.dicom.codes import ConceptCode
from monailabel_app.dicom.copied_values import LOSSY_DETAILS
from monailabel_app.dicom.errors import UnusableSeriesError
from monailabel_app.dicom.text import LONG_STRING_BYTES, shortened

with needs_extra("highdicom", "pacs"):
    from highdicom.sr.coding import CodedConcept
    from pydicom.sr.codedict import codes

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MANUFACTURER = "MedReasoner"
MODEL_NAME = "MedReasoner for MONAI Label"
# Results of one kind carry the same series number, apart from those of scanners.
SEG_SERIES_NUMBER = 7001
REPORT_SERIES_NUMBER = 7002
# Segment Algorithm Type (PS3.3 C.8.20.2) of what was calculated without a user's assistance.
AUTOMATIC = "AUTOMATIC"
_UTF_8 = "ISO_IR 192"


@dataclass(frozen=True)
class InstanceIds:
    """UIDs of a new object; ``version`` counts the versions of its record from 1."""

    series_uid: str
    instance_uid: str
    version: int = 1


def new_ids(version: int = 1) -> InstanceIds:
    """Fresh UIDs (PS3.5 B.2, from a random UUID)."""
    from pydicom.uid import generate_uid

    return InstanceIds(generate_uid(prefix=None), generate_uid(prefix=None), version)


def stable_uid(*names: str) -> str:
    """A UID that equal names give again."""
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=["medreasoner", *names]))


class DeviceAttributes(TypedDict):
    """Equipment attributes (PS3.3 C.7.5.2) as keyword arguments of highdicom."""

    manufacturer: str
    manufacturer_model_name: str
    software_versions: str
    device_serial_number: str


def device_attributes() -> DeviceAttributes:
    """Those of this installation."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": __version__,
        "device_serial_number": device_uid()[-LONG_STRING_BYTES:],
    }


def device_uid() -> str:
    """The UID of this installation, the same for as long as the machine keeps its name."""
    return stable_uid("device", platform.node())


def is_draft(segmentation: Dataset) -> bool:
    """Whether this is an answer of ours that no reader has submitted; its metadata suffice."""
    segments = segmentation.get("SegmentSequence") or ()
    kinds = {segment.get("SegmentAlgorithmType") for segment in segments}
    return segmentation.get("Manufacturer") == MANUFACTURER and kinds == {AUTOMATIC}


def coded(code: ConceptCode) -> CodedConcept:
    """As highdicom has it."""
    return CodedConcept(code.value, code.scheme, code.meaning)


def standard_code(scheme: str, keyword: str) -> CodedConcept:
    """A concept of DICOM's own dictionary (PS3.16), e.g. of ``DCM`` or ``UCUM``, by its keyword."""
    return CodedConcept.from_code(getattr(getattr(codes, scheme), keyword))


def series_description(names: Sequence[str], state: str | None, version: int = 1) -> str:
    """The name of a result's series, such as ``MedReasoner: spleen, accepted``.

    64 characters (LO) without what that forbids; what is too long is cut in the targets' names.

    Args:
        names: of the targets.
        state: what became of them.
        version: said from the second one on.
    """
    ends = [state or "", f"version {version}" if version > 1 else ""]
    end = "".join(f", {part}" for part in ends if part)
    room = LONG_STRING_BYTES - len(f"{MANUFACTURER}: {end}")
    return f"{MANUFACTURER}: {shortened(', '.join(names), room)}{end}"


@contextmanager
def writing_of(what: str) -> Iterator[None]:
    """Keep highdicom quiet, whose warnings repeat patients' names, and type what it refuses.

    Raises:
        UnusableSeriesError: the images lack something that the object needs.
    """
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnusableSeriesError(
            f"The images' headers do not allow {what} ({type(error).__name__}): a required field "
            "is missing or malformed. Send the series from the PACS or the scanner again."
        ) from error
    finally:
        logger.setLevel(level)


def finished(dataset: Dataset, description: str) -> Dataset:
    """Declare UTF-8, in which any text can be written, name the series, say nothing empty."""
    dataset.SpecificCharacterSet = _UTF_8
    dataset.SeriesDescription = description
    for keyword in LOSSY_DETAILS:
        if keyword in dataset and dataset[keyword].is_empty:
            del dataset[keyword]
    return dataset


def to_bytes(dataset: Dataset) -> bytes:
    """The object as a DICOM file (PS3.10)."""
    import pydicom

    with io.BytesIO() as buffer:
        pydicom.dcmwrite(buffer, dataset, write_like_original=False)
        return buffer.getvalue()
