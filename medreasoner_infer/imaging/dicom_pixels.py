# SPDX-License-Identifier: Apache-2.0
"""Modality values of the frames of a DICOM file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import MissingDecoderError, UnreadableImageError
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.content import compact
from medreasoner_infer.imaging.dicom_file import open_dicom
from medreasoner_infer.imaging.dicom_frames import require_decodable
from medreasoner_infer.imaging.dicom_header import code_string, frame_count, functional_attribute
from medreasoner_infer.imaging.limits import DEFAULT_LIMITS, FileLimits

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

_GREY = ("MONOCHROME1", "MONOCHROME2")


def read_frames(path: Path, limits: FileLimits = DEFAULT_LIMITS) -> NDArray[Any]:
    """Decode all frames of a file and apply the modality transform (PS3.3 C.11.1).

    Returns:
        (frames, rows, columns) of int16, int32, float32 or uint8, or uint8
        (frames, rows, columns, 3) for colour.

    Raises:
        MissingDecoderError: the package that undoes the compression is not installed.
        UnreadableImageError: the pixels cannot be decoded, or are of an unsupported kind.
    """
    dataset, _ = open_dicom(path, limits)
    if hasattr(dataset, "pixel_array_options"):
        # From version 3 pydicom converts YBR to RGB unasked; here it is done below, once.
        dataset.pixel_array_options(raw=True)
    refusal = _undecodable(dataset)
    with reading(str(refusal), type(refusal)):
        require_decodable(dataset)
        stored = dataset.pixel_array
    frames = stored if frame_count(dataset) > 1 else stored[np.newaxis]
    photometric = code_string(dataset, "PhotometricInterpretation")
    if photometric in _GREY and dataset.SamplesPerPixel == 1:
        return stack([_rescale(frames[i], dataset, i) for i in range(len(frames))])
    return _colour(frames, dataset, photometric)


def stack(frames: list[NDArray[Any]]) -> NDArray[Any]:
    """Frames of equal shape as one array; the type that holds them all, float32 for reals."""
    common = np.result_type(*frames)
    return np.stack(frames, dtype=np.float32 if common.kind == "f" else common)


def _rescale(stored: NDArray[Any], dataset: Dataset, index: int) -> NDArray[Any]:
    from pydicom.pixel_data_handlers import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        return compact(apply_modality_lut(stored, dataset))
    group = "PixelValueTransformationSequence"
    slope = functional_attribute(dataset, index, group, "RescaleSlope")
    intercept = functional_attribute(dataset, index, group, "RescaleIntercept")
    slope = 1.0 if slope is None else float(slope)
    intercept = 0.0 if intercept is None else float(intercept)
    if (slope, intercept) == (1.0, 0.0):
        return compact(stored)
    if slope.is_integer() and intercept.is_integer():
        return compact(stored.astype(np.int64) * int(slope) + int(intercept))
    return (stored * slope + intercept).astype(np.float32)


def _colour(frames: NDArray[Any], dataset: Dataset, photometric: str) -> NDArray[Any]:
    from pydicom.pixel_data_handlers import apply_color_lut, convert_color_space

    if photometric == "PALETTE COLOR":
        rgb = apply_color_lut(frames, dataset)
        return rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8)
    # JPEG 2000's own colour transforms (YBR_RCT, YBR_ICT) are undone by its decoder.
    supported = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
    if photometric not in supported or frames.dtype != np.uint8:
        raise UnreadableImageError(
            f"The DICOM file's pixels are {photometric} of {frames.dtype}; expected grey, palette "
            "colour or 8-bit RGB. Export it as one of these."
        )
    if photometric.startswith("YBR_FULL"):
        return convert_color_space(frames, photometric, "RGB")
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
