# SPDX-License-Identifier: Apache-2.0
"""Reading pictures without patient geometry: PNG, JPEG, TIFF and BMP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.content import compact, content_key, replace_non_finite
from medreasoner_infer.imaging.volume import Volume

if TYPE_CHECKING:
    from PIL import Image

_GREY_MODES = ("L", "I", "I;16", "I;16B", "I;16L", "F")


def load_picture(path: Path, modality: str | None = None) -> Volume:
    """Read a picture as one slice: x becomes I, y becomes J.

    8-bit grey and colour are kept as they are, transparency is dropped, a JPEG's orientation mark
    is followed. More than 8 bits of grey are kept and windowed by percentiles on display.

    Raises:
        UnreadableImageError: not a picture, damaged, too large to be one, or several pages.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            _require_single_page(image)
            upright = ImageOps.exif_transpose(image)
            pixels = _pixels(upright)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(
            f"The {path.suffix} file cannot be read as a picture: it is damaged, incomplete or of "
            "another kind. Export or copy it again."
        ) from error
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


def _require_single_page(image: Image.Image) -> None:
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise UnreadableImageError(
            f"The picture holds {pages} pages or frames; expected one. Save the page that the "
            "question is about as a PNG, or give the volume as NIfTI or DICOM."
        )


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode == "1":
        image = image.convert("L")
    if image.mode == "LA":
        image = image.getchannel("L")
    if image.mode not in _GREY_MODES:
        image = image.convert("RGB")
    return np.array(image)
