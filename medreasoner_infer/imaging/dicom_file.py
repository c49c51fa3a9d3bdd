# SPDX-License-Identifier: Apache-2.0
"""Opening a DICOM file with bounded work; every DICOM file of others is opened here."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.errors import ImageTooLargeError, UnreadableImageError
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.dicom_repairs import (
    check_functional_groups,
    repair_numbers,
    require_numbers,
)
from medreasoner_infer.imaging.dicom_start import PREFIX_BYTES, has_preamble
from medreasoner_infer.imaging.inflating import RAW, inflate
from medreasoner_infer.imaging.limits import (
    DEFAULT_LIMITS,
    FileLimits,
    require_present,
    require_size,
)
from medreasoner_infer.imaging.places import open_file

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

DAMAGED_HEADER = "The DICOM file is damaged: its header cannot be read. Export or copy it again."
_META_BYTES = 1 << 20
_META_READS = 1 << 16
_META_GROUP = 0x0002
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
# An item's tag and length precede the fragments of each frame (PS3.5, A.4).
_LEAST_FRAME_BYTES = 8
_GROUP_BYTES = 1 << 12
_FREE_GROUPS = 256


class MeteredFile(io.BufferedReader):
    """A file that is read only so far, in so many steps; a parser of it does bounded work.

    Args:
        raw: what is read.
        most_bytes: given out in all.
        most_reads: each element of a DICOM file takes about two.
    """

    def __init__(self, raw: io.RawIOBase | io.BytesIO, most_bytes: int, most_reads: int) -> None:
        super().__init__(raw)
        self._bytes_left = most_bytes
        self._reads_left = most_reads

    def read(self, size: int | None = -1, /) -> bytes:
        """As a file's, but a length that a header claims is never reserved before it is read.

        Raises:
            ImageTooLargeError: too much, or too many parts.
        """
        wanted = self._bytes_left + 1 if size is None or size < 0 else size
        content = super().read(min(wanted, self._bytes_left + 1))
        self._bytes_left -= len(content)
        self._reads_left -= 1
        if self._bytes_left < 0 or self._reads_left < 0:
            raise ImageTooLargeError(
                "The DICOM file's header is larger than any image's, or has too many parts. "
                "Export the image without private attributes."
            )
        return content


def open_dicom(
    path: Path, limits: FileLimits = DEFAULT_LIMITS, *, pixels: bool = True
) -> tuple[FileDataset, tuple[str, ...]]:
    """Read a DICOM file.

    Args:
        pixels: read the pixel data too, undecoded.

    Returns:
        The dataset, and what was mended in it, as sentences without patient identifiers.

    Raises:
        UnreadableImageError: it is damaged, or claims pixels that are not there.
        ImageTooLargeError: it holds or claims more than ``limits``.
    """
    with reading(DAMAGED_HEADER), open_file(path) as file:
        length = os.fstat(file.fileno()).st_size
        require_readable(length, limits)
        meta, start = _meta(file)
        if meta.get("TransferSyntaxUID") == _DEFLATED:
            file.seek(start)
            dataset, length = _read_deflated(file, meta, limits, pixels)
        else:
            file.seek(0)
            dataset = _read(file, length, limits, pixels)
        repairs = repair_numbers(dataset)
        require_numbers(dataset)
        require_plausible(dataset, length, limits)
        in_groups = check_functional_groups(dataset)
        return dataset, tuple(dict.fromkeys((*repairs, *in_groups)))


def require_readable(length: int, limits: FileLimits) -> None:
    """Refuse a file whose bytes alone are more than is read.

    Raises:
        ImageTooLargeError: they are.
    """
    if length > limits.voxel_bytes + limits.header_bytes:
        raise ImageTooLargeError(
            f"The DICOM file has {length:,} bytes; at most {limits.voxel_bytes:,} are read. Export "
            "a part of it."
        )


def require_plausible(dataset: Dataset, length: int, limits: FileLimits) -> None:
    """Check what a header says of its pixels before anything is done for each frame.

    Args:
        dataset: with or without its pixel data.
        length: bytes of the file.

    Raises:
        UnreadableImageError: it claims pixels that cannot be in a file of that length.
        ImageTooLargeError: it claims more than ``limits``.
    """
    if not dataset.get("Rows") or not dataset.get("Columns"):
        return
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > limits.frames:
        raise ImageTooLargeError(
            f"The DICOM file claims {frames} frames; at most {limits.frames} are read. It is "
            "damaged, or must be exported in parts."
        )
    shape = (frames, int(dataset.Rows), int(dataset.Columns), _stored_samples(dataset))
    size = require_size(shape, int(dataset.get("BitsAllocated") or 1), limits)
    syntax = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    encapsulated = syntax is not None and syntax.is_encapsulated
    require_present(frames * _LEAST_FRAME_BYTES if encapsulated else size, length)
    _require_modest_groups(dataset, frames)


def _require_modest_groups(dataset: Dataset, frames: int) -> None:
    """Functional groups are parsed when they are first asked for, and then all of them."""
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        unparsed = getattr(dataset.get_item(keyword), "value", None) if keyword in dataset else None
        if isinstance(unparsed, bytes) and len(unparsed) > (frames + _FREE_GROUPS) * _GROUP_BYTES:
            raise ImageTooLargeError(
                f"The DICOM file describes its {frames} frame(s) in {len(unparsed):,} bytes, far "
                "more than any camera does. Export it without private attributes."
            )


def _stored_samples(dataset: Dataset) -> int:
    """Values per pixel as stored: in YBR_FULL_422 two pixels share their colour."""
    if str(dataset.get("PhotometricInterpretation")) == "YBR_FULL_422":
        return 2
    return int(dataset.get("SamplesPerPixel") or 1)


def _read(file: io.FileIO, length: int, limits: FileLimits, pixels: bool) -> FileDataset:
    import pydicom
    from pydicom.uid import UID

    most_bytes = length + _META_BYTES if pixels else limits.header_bytes
    metered = MeteredFile(file, most_bytes, 2 * limits.elements)
    # Forced, as old files have no preamble; what is no DICOM file never comes here.
    dataset = pydicom.dcmread(metered, stop_before_pixels=not pixels, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = UID(_syntax_found(dataset))
    return dataset


def _syntax_found(dataset: Dataset) -> str:
    """The transfer syntax of a file that names none, as it was found in reading (PS3.5, A)."""
    if dataset.is_implicit_VR:
        return _IMPLICIT
    return _EXPLICIT if dataset.is_little_endian else _BIG_ENDIAN


def _meta(file: io.FileIO) -> tuple[Dataset, int]:
    """The file meta information (PS3.10, 7.1), and where it ends."""
    from pydicom.filereader import read_dataset

    met: list[int] = []

    def at_end(tag: int, _vr: str | None, _length: int) -> bool:
        if tag >> 16 != _META_GROUP:
            met.append(tag)
        return bool(met)

    content = file.read(_META_BYTES)
    head = io.BytesIO(content)
    metered = MeteredFile(head, _META_BYTES, _META_READS)
    metered.seek(PREFIX_BYTES if has_preamble(content) else 0)
    meta = read_dataset(metered, False, True, stop_when=at_end)
    if not met and len(content) == _META_BYTES:
        raise UnreadableImageError(DAMAGED_HEADER)  # what follows might be deflated
    return meta, metered.tell()


def _read_deflated(
    file: io.FileIO, meta: Dataset, limits: FileLimits, pixels: bool
) -> tuple[FileDataset, int]:
    """The dataset of a deflated file (PS3.5, A.5), and the most bytes that it may have.

    pydicom would inflate all there is; no more is inflated here than is read.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.filereader import read_dataset

    most = limits.header_bytes + (limits.voxel_bytes if pixels else 0)
    content = inflate(file, most, RAW)
    metered = MeteredFile(io.BytesIO(content), most, 2 * limits.elements)
    stop = None if pixels else _at_pixels
    dataset = read_dataset(metered, False, True, stop_when=stop)
    made = FileDataset(str(file.name), dataset, b"\0" * 128, FileMetaDataset(meta), False, True)
    return made, len(content) if pixels else most


def _at_pixels(tag: int, _vr: str | None, _length: int) -> bool:
    return tag in _PIXEL_TAGS
