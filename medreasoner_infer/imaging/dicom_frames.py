# SPDX-License-Identifier: Apache-2.0
"""Stored values of the frames of a DICOM object (PS3.5, 8.1 and 8.2), decoded where compressed.

A decoder reserves what the compressed stream claims, whatever Rows and Columns say; so each stream
is looked at before a library decodes it. What its numbers mean is decided here and not by the
library: how many bits they have, their sign, and the colour space of their components.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.jpeg_segments import jpeg2000_header, jpeg_header, scan_count

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_RLE = "1.2.840.10008.1.2.5"
# Lossless compression makes noise a little larger, and a stream may hold notes of its own.
_MOST_GROWTH = 2
_NOTES_BYTES = 1 << 20
_MOST_SCANS = 64


@dataclass(frozen=True)
class StoredFrames:
    """Stored values, (frames, rows, columns) or (frames, rows, columns, samples).

    ``colour_space`` is that of the samples, by the names of Photometric Interpretation.
    """

    values: NDArray[Any]
    colour_space: str


def stored_frames(dataset: Dataset, photometric: str) -> StoredFrames:
    """Decode the pixel data of a dataset.

    Args:
        dataset: with its pixel data.
        photometric: what it says of its colours; a JPEG stream that says otherwise is believed.

    Raises:
        UnreadableImageError: a compressed frame is not as the header says.
        Exception: whatever a decoder raises over damaged bytes.
    """
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_encapsulated:
        streams = list(_checked_streams(dataset, syntax))
        if syntax != _RLE:
            return _decoded(streams, dataset, photometric)
    if hasattr(dataset, "pixel_array_options"):
        # From version 3 pydicom converts YBR to RGB unasked; the reader of values does it once.
        dataset.pixel_array_options(raw=True)
    values = dataset.pixel_array
    frames = values if _frame_count(dataset) > 1 else values[np.newaxis]
    signed = _is_signed(dataset)
    return StoredFrames(_as_stored(frames, signed, *_stored_bits(dataset)), photometric)


def _decoded(streams: list[bytes], dataset: Dataset, photometric: str) -> StoredFrames:
    samples = int(dataset.get("SamplesPerPixel") or 1)
    shape = (int(dataset.Rows), int(dataset.Columns), samples)[: 2 if samples == 1 else 3]
    bits, _ = _stored_bits(dataset)
    frames, spaces = [], set[str]()
    for stream in streams:
        header = jpeg2000_header(stream) or jpeg_header(stream)
        values = _decode(stream)
        if header is None or values.shape != shape:
            raise UnreadableImageError(
                f"A compressed frame of a DICOM file holds values of shape {values.shape}, its "
                f"header says {shape}. Export it uncompressed."
            )
        coded = min(bits, header.precision)
        # Only JPEG 2000 codes a sign; where it does, the values are what it says.
        signed = _is_signed(dataset) or values.dtype.kind == "i"
        frames.append(_as_stored(values, signed, coded, coded - 1))
        spaces.add(header.colour_space or photometric)
    # Frames that differ in their colours are read as the header says.
    space = spaces.pop() if samples > 1 and len(spaces) == 1 else photometric
    return StoredFrames(np.stack(frames), space)


def _decode(stream: bytes) -> NDArray[Any]:
    """The samples of a stream as they are coded: no colour is converted."""
    if jpeg2000_header(stream) is None:
        import libjpeg

        return libjpeg.decode(stream, colour_transform=0)
    import openjpeg

    return openjpeg.decode(stream)


def _stored_bits(dataset: Dataset) -> tuple[int, int]:
    """Bits Stored and High Bit (PS3.5, 8.1.1)."""
    allocated = int(dataset.BitsAllocated)
    stored = int(dataset.get("BitsStored") or allocated)
    high = int(dataset.get("HighBit") or 0)
    if not 1 <= stored <= allocated:
        raise UnreadableImageError(
            f"The DICOM file claims {stored} bits stored in {allocated} bits allocated. It is "
            "damaged; export it again."
        )
    return stored, high if stored - 1 <= high < allocated else stored - 1


def _is_signed(dataset: Dataset) -> bool:
    return int(dataset.get("PixelRepresentation") or 0) == 1


def _as_stored(values: NDArray[Any], signed: bool, bits: int, high_bit: int) -> NDArray[Any]:
    """Values without the bits beyond those stored, and with their sign.

    "The high bits that are not used shall not be assumed" (PS3.5, 8.1.1): an overlay may lie there,
    and of negative values they may be 0.
    """
    if values.dtype.kind not in "iu":
        return values
    size = 8 * values.itemsize
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    kind = f"{'i' if signed else 'u'}{values.itemsize}"
    above, below = max(size - 1 - high_bit, 0), max(size - bits, 0)
    if not above and not below:
        return native.view(kind)
    return (native.view(f"u{values.itemsize}") << above).view(kind) >> below


def _frame_count(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _checked_streams(dataset: Dataset, syntax: Any) -> Iterator[bytes]:
    """The compressed frames, once each is found to be of the size that the header says.

    Raises:
        UnreadableImageError: one is not, or is far too long.
    """
    from pydicom.encaps import generate_pixel_data_frame

    size = int(dataset.Rows), int(dataset.Columns)
    bits = int(dataset.BitsAllocated) * int(dataset.get("SamplesPerPixel") or 1)
    most = _MOST_GROWTH * size[0] * size[1] * bits // 8 + _NOTES_BYTES
    for stream in generate_pixel_data_frame(dataset.PixelData, _frame_count(dataset)):
        too_long = len(stream) > most or scan_count(stream) > _MOST_SCANS
        header = None if syntax == _RLE else jpeg2000_header(stream) or jpeg_header(stream)
        fits = syntax == _RLE or (header is not None and (header.rows, header.columns) == size)
        if too_long or not fits:
            raise UnreadableImageError(
                f"The pixels of a DICOM file are damaged: a compressed frame ({syntax.name}) is "
                f"not of {size[0]} rows and {size[1]} columns. Export it uncompressed."
            )
        yield stream
