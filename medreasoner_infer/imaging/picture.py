# SPDX-License-Identifier: Apache-2.0
"""Reading pictures without patient geometry: PNG, JPEG, TIFF and BMP."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import ImageTooLargeError, UnreadableImageError
from medreasoner_infer.imaging.content import (
    compact,
    content_key,
    pixel_sides,
    replace_non_finite,
)
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
from medreasoner_infer.imaging.png_chunks import without_notes
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
# What Pillow raises over a damaged EXIF block.
_EXIF_FAULTS = (struct.error, KeyError, SyntaxError, TypeError, ValueError, ZeroDivisionError)
_ODD_EXIF = (
    "The picture's mark of its orientation (EXIF) cannot be read; it is shown as it is stored and "
    "may lie on its side."
)
_ON_ITS_SIDE = (5, 6, 7, 8)
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_BITS_PER_SAMPLE, _SAMPLE_FORMAT = 258, 339
# Bits and sample format (TIFF 6.0, section 19) whose sign Pillow overlooks.
_OVERLOOKED: dict[tuple[int, int], type[np.integer[Any]]] = {(8, 2): np.int8, (32, 1): np.uint32}
_GREY_MODES = ("L", "I", "I;16", "I;16B", "I;16L", "F")


def load_picture(
    path: Path,
    kind: ImageFormat,
    modality: str | None = None,
    limits: FileLimits = DEFAULT_LIMITS,
) -> Volume:
    """Read a picture as one slice: x becomes I, y becomes J.

    8-bit grey and colour are kept as they are, transparency is dropped, a mark of the orientation
    is followed. More than 8 bits of grey are kept and windowed by percentiles on display. Of the
    pixels' size only the ratio of its sides is taken: what is said of inches is about paper.

    Args:
        kind: what the content was found to be; no other decoder is tried.

    Raises:
        UnreadableImageError: damaged, or several pages.
        ImageTooLargeError: more pixels than ``limits``, or work out of proportion to its size.
    """
    from PIL import Image

    length = path.stat().st_size
    if length > limits.pixels:
        raise ImageTooLargeError(
            f"The picture's file has {length:,} bytes; at most {limits.pixels:,} are read. Save it "
            "compressed, or crop it."
        )
    with open_file(path) as raw:
        content = io.BufferedReader(raw).read(length)
    scans = scan_count(content) if kind is ImageFormat.JPEG else 0
    packed = without_notes(content) if kind is ImageFormat.PNG else content
    with Image.open(io.BytesIO(packed), formats=[_NAMES[kind]]) as image:
        _require_size(image, length, limits)
        _require_few_scans(image, scans, limits)
        _require_single_page(image)
        shown = _upright(image)
    values, warnings = replace_non_finite(compact(shown.pixels))
    array_ijk = np.expand_dims(values.swapaxes(0, 1), 2)
    scaled = np.diag([*shown.pixel_wh, 1.0, 1.0])
    return Volume(
        array=array_ijk,
        ijk_to_lps=scaled,
        modality=modality.strip().upper() if modality else "OT",
        key=content_key(array_ijk, scaled),
        source=path,
        inverted=shown.inverted,
        is_picture=True,
        spacing_known=False,
        modality_guessed=not modality,
        warnings=(*warnings, *shown.warnings),
    )


@dataclass(frozen=True)
class _Upright:
    """A picture as it is to be shown.

    Attributes:
        pixels: (H, W) or (H, W, 3).
        pixel_wh: width and height of a pixel, of which the ratio alone means anything.
        inverted: the lowest value is white.
        warnings: what could not be read of the way it is to be shown.
    """

    pixels: NDArray[Any]
    pixel_wh: tuple[float, float]
    inverted: bool
    warnings: tuple[str, ...]


def _upright(image: Image.Image) -> _Upright:
    """Turn a picture by the mark of its orientation; Pillow does so for TIFF when it loads one."""
    inverted, (width, height) = _is_white_zero(image), _pixel_wh(image)
    mark, sampled = _orientation(image), _overlooked_type(image)
    image.load()
    _require_palette(image)
    turn = _turns().get(_orientation(image))
    pixels = _pixels(image if turn is None else image.transpose(turn))
    pixels = pixels if sampled is None else pixels.view(sampled)
    odd = mark not in (None, 1, *_turns())
    return _Upright(
        pixels,
        (height, width) if mark in _ON_ITS_SIDE else (width, height),
        inverted,
        (_ODD_EXIF,) * odd,
    )


def _orientation(image: Image.Image) -> object:
    """The EXIF mark of the orientation, ``None`` where there is none, 0 where it is damaged."""
    from PIL import ExifTags

    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except _EXIF_FAULTS:
        return 0


def _turns() -> dict[object, Image.Transpose]:
    """What undoes each EXIF orientation beyond the first (TIFF 6.0, section 8)."""
    from PIL.Image import Transpose

    return {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }  # fmt: skip


def _is_white_zero(image: Image.Image) -> bool:
    """Whether the lowest value of a TIFF file is white; Pillow sees to it for up to 8 bits."""
    tags = getattr(image, "tag_v2", {})
    return image.mode not in ("1", "L") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _overlooked_type(image: Image.Image) -> type[np.integer[Any]] | None:
    """The type of a TIFF file's grey values, where Pillow gives their bytes another sign."""
    tags = getattr(image, "tag_v2", {})
    if image.mode not in ("L", "I"):
        return None
    bits, kind = (tags.get(tag) or (1,) for tag in (_BITS_PER_SAMPLE, _SAMPLE_FORMAT))
    return _OVERLOOKED.get((bits[0], kind[0]))


def _require_palette(image: Image.Image) -> None:
    """Refuse numbers of colours that are not in the palette: they would all be black."""
    if image.mode != "P":
        return
    colours = len(image.palette.palette) // len(image.palette.mode) if image.palette else 0
    highest = np.asarray(image).max(initial=0)
    if highest >= colours:
        raise UnreadableImageError(
            f"The picture's palette has {colours} colours, and its pixels name number {highest}. "
            "It is damaged; save it again."
        )


def _pixel_wh(image: Image.Image) -> tuple[float, float]:
    """Width and height of a pixel as it is stored, of which the ratio alone means anything."""
    names = ("aspect", "jfif_density", "resolution", "dpi")
    density = next((image.info[name] for name in names if name in image.info), (1, 1))
    across, down = (float(pixels) for pixels in density)
    if not (across > 0 and down > 0):
        return 1.0, 1.0
    height, width = pixel_sides(1 / down, 1 / across)
    return width, height


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


def _pixels(image: Image.Image) -> NDArray[Any]:
    if image.mode == "1":
        image = image.convert("L")
    if image.mode == "LA":
        image = image.getchannel("L")
    if image.mode not in _GREY_MODES:
        image = image.convert("RGB")
    return np.array(image)
