# SPDX-License-Identifier: Apache-2.0
"""Compressed frames of a DICOM object, looked at before a library decodes them.

A decoder reserves what the compressed stream claims, whatever Rows and Columns say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.jpeg_segments import frame_size, scan_count

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_RLE = "1.2.840.10008.1.2.5"
# Lossless compression makes noise a little larger, and a stream may hold notes of its own.
_MOST_GROWTH = 2
_NOTES_BYTES = 1 << 20
_MOST_SCANS = 64
# ISO/IEC 15444-1, A.5.1: start of codestream, then the image and tile size.
_CODESTREAM = b"\xff\x4f\xff\x51"


def require_decodable(dataset: Dataset) -> None:
    """Check that each compressed frame is of the size that the header says.

    Raises:
        UnreadableImageError: one is not, or is far too long.
    """
    from pydicom.encaps import generate_pixel_data_frame

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_encapsulated:
        return
    size = int(dataset.Rows), int(dataset.Columns)
    bits = int(dataset.BitsAllocated) * int(dataset.get("SamplesPerPixel") or 1)
    most = _MOST_GROWTH * size[0] * size[1] * bits // 8 + _NOTES_BYTES
    frames = int(dataset.get("NumberOfFrames") or 1)
    for stream in generate_pixel_data_frame(dataset.PixelData, frames):
        too_long = len(stream) > most or scan_count(stream) > _MOST_SCANS
        if too_long or (syntax != _RLE and _decoded_size(stream) != size):
            raise UnreadableImageError(
                f"The pixels of a DICOM file are damaged: a compressed frame ({syntax.name}) is "
                f"not of {size[0]} rows and {size[1]} columns. Export it uncompressed."
            )


def _decoded_size(stream: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a JPEG, JPEG-LS or JPEG 2000 stream."""
    start = stream.find(_CODESTREAM, 0, _NOTES_BYTES)
    if start < 0:
        return frame_size(stream)
    numbers = [int.from_bytes(stream[at : at + 4], "big") for at in range(start + 8, start + 24, 4)]
    columns, rows, first_column, first_row = numbers
    return rows - first_row, columns - first_column
