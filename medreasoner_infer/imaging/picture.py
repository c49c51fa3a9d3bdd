# SPDX-License-Identifier: Apache-2.0
"""Reading pictures without patient geometry: PNG, JPEG, TIFF and BMP."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import ImageTooLargeError, UnreadableImageError
from medreasoner_infer.imaging.content import compact, content_key, replace_non_finite
from medreasoner_infer.imaging.formats import ImageFormat
from medreasoner_infer.imaging.jpeg_segments import scan_count
from medreasoner_infer.imaging.limits import (
    DEFAULT_LIMITS,
    DEFLATE_RATIO,
    FileLimits,
    require_present,
    require_size,
)
from medreasoner_infer.imaging.places import open_file
from medreasoner_infer.imaging.volume import Volume

if TYPE_CHECKING:
    from PIL import Image

_NAMES = {
    ImageFormat.PNG: "PNG",
    ImageFormat.JPEG: "JPEG",
    ImageFormat.TIFF: "TIFF",
    ImageFormat.BMP: "BMP",
}
# Bits of a pixel in the file, where Pillow's mode holds more.
_LEAST_BITS = {"1": 1, "L": 1, "P": 1}
# What one byte unpacks to at most: an LZW code of 12 bits stands for 4,096 bytes at most, PackBits
# makes 128 bytes of two. A header that claims more is refused before memory is reserved for it.
_MOST_RATIO = {
    "raw": 1,
    "packbits": 64,
    "tiff_lzw": 2731,
    "tiff_adobe_deflate": DEFLATE_RATIO,
    "tiff_deflate": DEFLATE_RATIO,
    "deflate": DEFLATE_RATIO,
}
_BOUNDED = ("PNG", "TIFF")
# Progressive pictures have about ten; more are looked at closely.
_FREE_SCANS = 32
_MOST_COUNTED = 100
_GREY_MODES = ("L", "I", "I;16", "I;16B", "I;16L", "F")


def load_picture(
    path: Path,
    kind: ImageFormat,
    modality: str | None = None,
    limits: FileLimits = DEFAULT_LIMITS,
) -> Volume:
    """Read a picture as one slice: x becomes I, y becomes J.

    8-bit grey and colour are kept as they are, transparency is dropped, a JPEG's orientation mark
    is followed. More than 8 bits of grey are kept and windowed by percentiles on display.

    Args:
        kind: what the content was found to be; no other decoder is tried.

    Raises:
        UnreadableImageError: damaged, or several pages.
        ImageTooLargeError: more pixels than ``limits``, or work out of proportion to its size.
    """
    from PIL import Image, ImageOps

    length = path.stat().st_size
    if length > limits.pixels:
        raise ImageTooLargeError(
            f"The picture's file has {length:,} bytes; at most {limits.pixels:,} are read. Save it "
            "compressed, or crop it."
        )
    with open_file(path) as raw, io.BufferedReader(raw) as file:
        packed = file.read() if kind is ImageFormat.JPEG else b""
        file.seek(0)
        with Image.open(file, formats=[_NAMES[kind]]) as image:
            _require_size(image, length, limits)
            _require_few_scans(image, scan_count(packed), limits)
            _require_single_page(image)
            upright = ImageOps.exif_transpose(image)
            pixels = _pixels(upright)
    values, warnings = replace_non_finite(compact(pixels))
    return Volume(
        array=np.expand_dims(values.swapaxes(0, 1), 2),
        ijk_to_lps=np.eye(4),
        modality=modality.strip().upper() if modality else "OT",
        key=content_key([path]),
        source=path,
        is_picture=True,
        spacing_known=False,
        modality_guessed=not modality,
        warnings=warnings,
    )


def _require_size(image: Image.Image, length: int, limits: FileLimits) -> None:
    pixels = image.width * image.height
    if pixels > limits.pixels:
        raise ImageTooLargeError(
            f"The picture has {image.width} x {image.height} pixels; at most {limits.pixels:,} "
            "are read. Crop it, or make it smaller."
        )
    bits = _LEAST_BITS.get(image.mode, 8)
    size = require_size((image.width, image.height), bits, limits)
    compression = "deflate" if image.format == "PNG" else image.info.get("compression", "raw")
    if image.format in _BOUNDED and compression in _MOST_RATIO:
        require_present(size, length * _MOST_RATIO[compression])


def _require_few_scans(image: Image.Image, scans: int, limits: FileLimits) -> None:
    if scans > _FREE_SCANS and scans * image.width * image.height > limits.pixels:
        raise ImageTooLargeError(
            f"The JPEG file paints its {image.width} x {image.height} pixels {scans} times. Save "
            "it again as PNG."
        )


def _require_single_page(image: Image.Image) -> None:
    pages = _tiff_pages(image) if image.format == "TIFF" else getattr(image, "n_frames", 1)
    if pages > 1:
        raise UnreadableImageError(
            f"The picture holds {pages} pages or frames; expected one. Save the page that the "
            "question is about as a PNG, or give the volume as NIfTI or DICOM."
        )


def _tiff_pages(image: Image.Image) -> int:
    """The number of pages, none counted beyond a few: counting a million takes hours."""
    page = 0
    try:
        while page < _MOST_COUNTED:
            image.seek(page + 1)
            page += 1
    except EOFError:
        image.seek(0)
    return page + 1


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode == "1":
        image = image.convert("L")
    if image.mode == "LA":
        image = image.getchannel("L")
    if image.mode not in _GREY_MODES:
        image = image.convert("RGB")
    return np.array(image)
