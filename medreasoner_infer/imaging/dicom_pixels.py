# SPDX-License-Identifier: Apache-2.0
"""Modality values of the frames of a DICOM file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import MissingDecoderError, UnreadableImageError
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.content import compact
from medreasoner_infer.imaging.dicom_file import open_dicom
from medreasoner_infer.imaging.dicom_frames import stored_frames
from medreasoner_infer.imaging.dicom_header import code_string, padding_range, rescale_of
from medreasoner_infer.imaging.dicom_palette import palette_colours
from medreasoner_infer.imaging.limits import DEFAULT_LIMITS, FileLimits
from medreasoner_infer.imaging.window import ValueRange

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

# Without these nobody knows what the bytes of the pixels mean (PS3.3, C.7.6.3), and without the
# others what those of plain integers do; a compressed stream says more of itself.
_DESCRIBED_BY = ("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated")
_INTEGERS_BY = ("BitsStored", "PixelRepresentation")
_NO_SPACE = "without a valid Photometric Interpretation,"
_GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class Frames:
    """Modality values of the frames of a file.

    Attributes:
        values: (frames, rows, columns) of int16, int32, float32 or uint8, or uint8
            (frames, rows, columns, 3) for colour.
        padding: ranges of values, both ends included, that stand for no tissue.
    """

    values: NDArray[Any]
    padding: frozenset[ValueRange] = frozenset()


def read_frames(path: Path, limits: FileLimits = DEFAULT_LIMITS) -> Frames:
    """Decode all frames of a file and apply the modality transform (PS3.3 C.11.1).

    Raises:
        MissingDecoderError: the package that undoes the compression is not installed.
        UnreadableImageError: the pixels cannot be decoded, or are of an unsupported kind.
    """
    dataset, _ = open_dicom(path, limits)
    _require_described(dataset)
    photometric = code_string(dataset, "PhotometricInterpretation")
    refusal = _undecodable(dataset)
    with reading(str(refusal), type(refusal)):
        stored = stored_frames(dataset, photometric)
    frames = stored.values
    if photometric in _GREY and dataset.SamplesPerPixel == 1:
        values = stack([_rescale(frames[i], dataset, i) for i in range(len(frames))])
        return Frames(values, _padding(dataset, frames))
    return Frames(_colour(frames, dataset, stored.colour_space))


def _require_described(dataset: Dataset) -> None:
    """Check that all is there by which pixels are told from bytes.

    Raises:
        UnreadableImageError: something is not; it is named.
    """
    from pydicom.datadict import dictionary_description, tag_for_keyword
    from pydicom.tag import Tag

    wanted = list(_DESCRIBED_BY)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if "PixelData" in dataset and not (syntax is not None and syntax.is_encapsulated):
        wanted += _INTEGERS_BY
        if (dataset.get("SamplesPerPixel") or 1) > 1:
            wanted.append("PlanarConfiguration")
    missing = [keyword for keyword in wanted if dataset.get(keyword) in (None, "")]
    if missing:
        tags = [Tag(tag_for_keyword(keyword) or 0) for keyword in missing]
        names = ", ".join(f"{dictionary_description(tag)} {tag}" for tag in tags)
        raise UnreadableImageError(
            f"The DICOM file does not give its {names}, without which its pixels mean nothing. "
            "Export the image again."
        )


def stack(frames: list[NDArray[Any]]) -> NDArray[Any]:
    """Frames of equal shape as one array; the type that holds them all, float32 for reals."""
    common = np.result_type(*frames)
    return np.stack(frames, dtype=np.float32 if common.kind == "f" else common)


def _rescale(stored: NDArray[Any], dataset: Dataset, index: int) -> NDArray[Any]:
    from pydicom.pixel_data_handlers import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        return compact(apply_modality_lut(stored, dataset))
    slope, intercept = rescale_of(dataset, index)
    if (slope, intercept) == (1.0, 0.0):
        return compact(stored)
    if slope.is_integer() and intercept.is_integer():
        return compact(stored.astype(np.int64) * int(slope) + int(intercept))
    return (stored * slope + intercept).astype(np.float32)


def _padding(dataset: Dataset, stored: NDArray[Any]) -> frozenset[ValueRange]:
    """Pixel Padding Value and Range Limit (PS3.3 C.7.5.1.1.2) as modality values."""
    if dataset.get("ModalityLUTSequence"):
        return frozenset()
    ends = padding_range(dataset)
    if ends is None or stored.dtype.kind not in "iu":
        return frozenset()
    # Headers often give the two's complement of a negative value as a positive number.
    low, high = sorted(int(np.array(end).astype(stored.dtype)) for end in ends)
    rescales = {rescale_of(dataset, index) for index in range(len(stored))}
    return frozenset(
        (min(ends), max(ends))
        for slope, intercept in rescales
        for ends in [(low * slope + intercept, high * slope + intercept)]
    )


def _colour(frames: NDArray[Any], dataset: Dataset, space: str) -> NDArray[Any]:
    from pydicom.pixel_data_handlers import convert_color_space

    if space == "PALETTE COLOR":
        return palette_colours(frames, dataset)
    # JPEG 2000's own colour transforms (YBR_RCT, YBR_ICT) are undone by its decoder.
    supported = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
    if space not in supported or frames.dtype != np.uint8:
        raise UnreadableImageError(
            f"The DICOM file's pixels are {space or _NO_SPACE} of {frames.dtype}; expected grey, "
            "palette colour or 8-bit RGB. Export it as one of these."
        )
    if space.startswith("YBR_FULL"):
        return convert_color_space(frames, "YBR_FULL", "RGB")
    return frames


def _undecodable(dataset: Dataset) -> UnreadableImageError:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    compression = syntax.name if syntax is not None and syntax.is_transfer_syntax else "unknown"
    missing = _missing_decoder(syntax)
    if missing is not None:
        return MissingDecoderError(
            f"The pixels of a DICOM file are compressed ({compression}), and the package that "
            f"decodes them is not installed on the server: pip install pylibjpeg {missing}"
        )
    return UnreadableImageError(
        "The pixels of a DICOM file cannot be decoded: it is damaged, or its compression "
        f"({compression}) is not supported. Export it uncompressed."
    )


def _missing_decoder(syntax: UID | None) -> str | None:
    from pydicom import uid

    if syntax in uid.JPEG2000TransferSyntaxes:
        module, package = "openjpeg", "pylibjpeg-openjpeg"
    elif syntax in (*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes):
        module, package = "libjpeg", "pylibjpeg-libjpeg"
    else:
        return None
    return package if None in (find_spec("pylibjpeg"), find_spec(module)) else None
