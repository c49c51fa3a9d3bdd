# SPDX-License-Identifier: Apache-2.0
"""What a file is, by its content: an allow-list of the formats that are read.

Names are what the sender chose, so they decide nothing. Everything that is not recognised is
refused, whatever it is called.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.dicom_start import is_dicom
from medreasoner_infer.imaging.inflating import inflate
from medreasoner_infer.imaging.metaimage_header import is_metaimage, read_metaimage_header
from medreasoner_infer.imaging.nrrd_header import is_nrrd, read_nrrd_header
from medreasoner_infer.imaging.places import open_file

EXPECTED = (
    "Expected NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha, .mhd), a DICOM file, a folder with a "
    "DICOM series, or a picture (.png, .jpg, .tif)."
)
NOT_SUPPORTED = f"The file is of no supported format. {EXPECTED}"
# Headers whose voxels may lie in another file beside them.
DETACHED_HEADERS = (".nhdr", ".mhd")
_HEAD_BYTES = 544
_BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class ImageFormat(Enum):
    """A format that is read; its value is the suffix under which such a file is kept."""

    NIFTI_GZ = ".nii.gz"
    NIFTI = ".nii"
    NRRD = ".nrrd"
    METAIMAGE = ".mha"
    PNG = ".png"
    JPEG = ".jpg"
    TIFF = ".tif"
    BMP = ".bmp"
    DICOM = ".dcm"

    @property
    def suffix(self) -> str:
        """The canonical suffix, with its dot."""
        return self.value


def identify(path: str | os.PathLike[str]) -> ImageFormat:
    """What a file is, by its content.

    A NRRD or MetaImage file counts only where its header is understood in full and its voxels are
    in the file itself; the sizes that a header claims are checked when the image is loaded.

    Raises:
        UnreadableImageError: it is none of these formats, or no ordinary file.
    """
    found = format_of(Path(path))
    if found is None:
        raise UnreadableImageError(NOT_SUPPORTED)
    return found


def format_of(path: Path) -> ImageFormat | None:
    """As :func:`identify`, but ``None`` where the content is like none of the formats.

    Raises:
        UnreadableImageError: it is no ordinary file, or its header is damaged.
    """
    with reading(NOT_SUPPORTED), open_file(path) as file:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        return _of_head(head) or _nifti_gz(head, file) or _with_text_header(head, file)


def _of_head(head: bytes) -> ImageFormat | None:
    if is_dicom(head):
        return ImageFormat.DICOM
    if head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR":
        return ImageFormat.PNG
    if head[:3] == b"\xff\xd8\xff":
        return ImageFormat.JPEG
    if head[:4] in _TIFF_MARKS:
        return ImageFormat.TIFF
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return ImageFormat.BMP
    return ImageFormat.NIFTI if is_nifti(head) else None


def is_nifti(head: bytes) -> bool:
    """Whether these are the first bytes of a NIfTI-1 or -2 file that holds its own voxels."""
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    first = 348 in sizes and head[344:348] == b"n+1\0"
    second = 540 in sizes and head[4:12] == b"n+2\0\r\n\x1a\n" and len(head) >= 540
    return first or second


def _nifti_gz(head: bytes, file: BinaryIO) -> ImageFormat | None:
    if head[:3] != b"\x1f\x8b\x08":
        return None
    unpacked = inflate(file, _HEAD_BYTES)
    return ImageFormat.NIFTI_GZ if is_nifti(bytes(unpacked)) else None


def _with_text_header(head: bytes, file: BinaryIO) -> ImageFormat | None:
    if is_nrrd(head):
        read_nrrd_header(file).require_attached()
        return ImageFormat.NRRD
    if is_metaimage(head):
        read_metaimage_header(file).require_attached()
        return ImageFormat.METAIMAGE
    return None
