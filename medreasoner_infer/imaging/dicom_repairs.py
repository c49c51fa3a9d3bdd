# SPDX-License-Identifier: Apache-2.0
"""Numbers in DICOM headers that are written against the standard: mended where they can mean one
thing only, else refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.boundary import reading

if TYPE_CHECKING:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_DECIMAL_STRINGS = (
    *_SPACINGS, "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness",
    "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth",
)  # fmt: skip
# What no image is read without, where it is there, and how many numbers it has.
_COUNTS = {
    "Rows": 1, "Columns": 1, "SamplesPerPixel": 1, "BitsAllocated": 1, "BitsStored": 1,
    "HighBit": 1, "PixelRepresentation": 1, "NumberOfFrames": 1, "RescaleSlope": 1,
    "RescaleIntercept": 1, "SliceThickness": 1, "PixelSpacing": 2, "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
}  # fmt: skip
_COMMA = (
    "The DICOM file writes numbers with a decimal comma, which the standard does not allow; they "
    "are read as decimal points."
)
_ONE_SPACING = (
    "The DICOM file gives one pixel spacing instead of two; the pixels are taken for squares."
)


def repair_numbers(dataset: Dataset) -> tuple[str, ...]:
    """Mend numbers of a dataset that was just read, in place.

    Returns:
        What was mended, as sentences without patient identifiers.
    """
    commas = [_replace(dataset, keyword, b",", b".") for keyword in _DECIMAL_STRINGS]
    squares = [_double(dataset, keyword) for keyword in _SPACINGS]
    return (_COMMA,) * any(commas) + (_ONE_SPACING,) * any(squares)


def require_numbers(dataset: Dataset) -> None:
    """Check the numbers that an image is read by; none needs to be there.

    Raises:
        UnreadableImageError: one is no number, or there are too many or too few; it is named.
    """
    from pydicom.datadict import dictionary_description

    for keyword, count in _COUNTS.items():
        if keyword not in dataset:
            continue
        tag = cast("RawDataElement", dataset.get_item(keyword)).tag
        refusal = (
            f"The DICOM file's {dictionary_description(tag)} {tag} does not hold {count} "
            "number(s), as the standard has it. Correct it, or export the image again."
        )
        with reading(refusal):
            if len(_numbers(dataset[keyword].value)) not in (0, count):
                raise UnreadableImageError(refusal)


def _numbers(value: Any) -> list[float]:
    if value is None or value == "":
        return []
    several = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    return [float(number) for number in (value if several else [value])]


def _replace(dataset: Dataset, keyword: str, wrong: bytes, right: bytes) -> bool:
    raw = _raw(dataset, keyword)
    if wrong not in raw:
        return False
    _set(dataset, keyword, raw.replace(wrong, right))
    return True


def _double(dataset: Dataset, keyword: str) -> bool:
    raw = _raw(dataset, keyword).strip()
    if not raw or b"\\" in raw:
        return False
    _set(dataset, keyword, raw + b"\\" + raw)
    return True


def _raw(dataset: Dataset, keyword: str) -> bytes:
    """The bytes of an element that pydicom has not parsed yet."""
    element = dataset.get_item(keyword) if keyword in dataset else None
    value = getattr(element, "value", None)
    return value if isinstance(value, bytes) else b""


def _set(dataset: Dataset, keyword: str, value: bytes) -> None:
    element = cast("RawDataElement", dataset.get_item(keyword))
    dataset[element.tag] = element._replace(value=value, length=len(value))
