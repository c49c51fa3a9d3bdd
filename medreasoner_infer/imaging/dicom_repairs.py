# SPDX-License-Identifier: Apache-2.0
"""Numbers in DICOM headers that are written against the standard: mended where they can mean one
thing only, else refused by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
# Of the groups of a frame (PS3.3, C.7.6.16) those that hold such numbers.
_FRAMES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_GROUPS = (
    "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence",
    "PixelValueTransformationSequence", "FrameVOILUTSequence",
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


_NO_SLOPE = (
    "The DICOM file gives a Rescale Slope of 0, which would make all values alike; it is taken for "
    "1."
)
_NO_FRAMES = "The DICOM file says that it holds 0 frames; it is read as one."


def repair_numbers(dataset: Dataset) -> tuple[str, ...]:
    """Mend numbers of a dataset that was just read, or of a functional group, in place.

    Returns:
        What was mended, as sentences without patient identifiers.
    """
    mended = {
        _COMMA: [_replace(dataset, keyword, b",", b".") for keyword in _DECIMAL_STRINGS],
        _ONE_SPACING: [_double(dataset, keyword) for keyword in _SPACINGS],
        _NO_SLOPE: [_one_for_zero(dataset, "RescaleSlope")],
        _NO_FRAMES: [_one_for_zero(dataset, "NumberOfFrames")],
    }
    return tuple(sentence for sentence, done in mended.items() if any(done))


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
        name = f"{dictionary_description(tag)} {tag}"
        refusal = (
            f"The DICOM file's {name} does not hold {count} number(s), as the standard has it. "
            "Correct it, or export the image again."
        )
        with reading(refusal):
            numbers = _numbers(dataset[keyword].value)
            if len(numbers) not in (0, count) or not all(map(math.isfinite, numbers)):
                raise UnreadableImageError(refusal)
        if keyword in _SPACINGS and min(numbers, default=0) < 0:
            raise UnreadableImageError(
                f"The DICOM file's {name} is negative; expected millimetres. Correct it, or export "
                "the image again."
            )


def check_functional_groups(dataset: Dataset) -> tuple[str, ...]:
    """As :func:`repair_numbers` and :func:`require_numbers`, in the groups of the frames.

    Raises:
        UnreadableImageError: as :func:`require_numbers`.
    """
    repairs: dict[str, None] = {}
    for group in _functional_groups(dataset):
        repairs |= dict.fromkeys(repair_numbers(group))
        require_numbers(group)
    return tuple(repairs)


def _functional_groups(dataset: Dataset) -> Iterator[Dataset]:
    for frames in _FRAMES:
        for item in dataset.get(frames) or ():
            for group in _GROUPS:
                yield from (item.get(group) or ())[:1]


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


def _one_for_zero(dataset: Dataset, keyword: str) -> bool:
    raw = _raw(dataset, keyword).strip(b" \0")
    if raw.strip(b"+-0.") or b"0" not in raw:
        return False
    _set(dataset, keyword, b"1 ")
    return True


def _raw(dataset: Dataset, keyword: str) -> bytes:
    """The bytes of an element that pydicom has not parsed yet."""
    element = dataset.get_item(keyword) if keyword in dataset else None
    value = getattr(element, "value", None)
    return value if isinstance(value, bytes) else b""


def _set(dataset: Dataset, keyword: str, value: bytes) -> None:
    element = cast("RawDataElement", dataset.get_item(keyword))
    dataset[element.tag] = element._replace(value=value, length=len(value))
