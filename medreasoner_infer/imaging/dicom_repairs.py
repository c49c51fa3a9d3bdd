# SPDX-License-Identifier: Apache-2.0
"""Numbers in DICOM headers that are written against the standard and can mean one thing only."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_DECIMAL_STRINGS = (
    *_SPACINGS, "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness",
    "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth",
)  # fmt: skip
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
