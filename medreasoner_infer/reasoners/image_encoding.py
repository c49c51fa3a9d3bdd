# SPDX-License-Identifier: Apache-2.0
"""How a letterboxed slice becomes the three channels that a reasoner was trained on."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

ImageEncoding = Literal["rgb", "grey_xy_ramps"]
IMAGE_ENCODINGS: tuple[str, ...] = get_args(ImageEncoding)


def prepare_image(square: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """The image that a reasoner reads, from a letterboxed slice.

    Args:
        square: uint8 of shape (S, S) for grey or (S, S, 3) for colour, in reasoner px.
        encoding: ``rgb`` keeps colour and repeats grey three times. ``grey_xy_ramps`` puts the
            luminance into red and the position along x and y into green and blue, each rising from
            0 to 255 across the image: a small model then need not learn where a patch lies.

    Returns:
        uint8 of shape (S, S, 3), contiguous.

    Raises:
        ValueError: if the encoding is unknown, or the array is not such an image.
    """
    if encoding not in IMAGE_ENCODINGS:
        raise ValueError(
            f"The image encoding is {encoding!r}; expected one of {', '.join(IMAGE_ENCODINGS)}."
        )
    _check_square(square)
    if encoding == "rgb":
        rgb = square if square.ndim == 3 else np.repeat(square[..., None], 3, axis=2)
        return np.ascontiguousarray(rgb)
    side = square.shape[0]
    ramp = ((np.arange(side) + 0.5) / side * 255).astype(np.uint8)
    x_ramp = np.broadcast_to(ramp, (side, side))
    return np.stack([luminance(square), x_ramp, x_ramp.T], axis=2)


def luminance(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey uint8 of shape (H, W): ITU-R BT.601 luma of colour, grey as it is."""
    if image.ndim == 2:
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).convert("L"))


def _check_square(image: NDArray[np.uint8]) -> None:
    grey_or_rgb = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not grey_or_rgb or image.shape[0] != image.shape[1]:
        raise ValueError(
            f"The image is {image.dtype} of shape {image.shape}; expected uint8 of shape (S, S) or "
            "(S, S, 3). Letterbox the slice first."
        )
