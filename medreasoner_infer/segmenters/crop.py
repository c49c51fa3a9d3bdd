# SPDX-License-Identifier: Apache-2.0
"""The part of a slice that the model reads, and the way there and back.

Crop px are the pixels of the model's square input, which shows the crop. They are edge based, as
slice px are: crop px (0, 0) is the crop's top left corner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import PromptError
from medreasoner_infer.types import XY, XYXY, SliceImage, SlicePrompt

if TYPE_CHECKING:
    from PIL import Image

#: A crop is never narrower than this many slice pixels: less shows the model nothing.
MIN_CROP_PX = 16
_SIDE_STEPS_PER_OCTAVE = 6
_CENTRE_STEPS_PER_SIDE = 32


class Resampling(str, Enum):
    """How pixels become those of a model's input."""

    LINEAR = "linear"
    CUBIC = "cubic"
    NEAREST = "nearest"


@dataclass(frozen=True)
class Crop:
    """A rectangle in slice px that fills the model's square input; it may reach over the border."""

    x1: float
    y1: float
    width: float
    height: float

    def to_crop_px(self, points_xy_px: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """Slice px (N, 2) to crop px (N, 2) of an input of ``size`` x ``size``."""
        points = np.asarray(points_xy_px, np.float64).reshape(-1, 2)
        return (points - (self.x1, self.y1)) / (self.width, self.height) * size

    def contains(self, points_xy_px: NDArray[np.float64]) -> bool:
        """Whether all points (N, 2) lie inside."""
        inside = self.to_crop_px(points_xy_px, 1)
        return bool(((inside >= 0) & (inside <= 1)).all())

    def read(
        self, pixels: NDArray[Any], size: int, resampling: Resampling = Resampling.LINEAR
    ) -> NDArray[Any]:
        """Resample uint8 pixels (H, W) or (H, W, 3) to (size, size[, 3]), black beyond the border.

        Pillow's filters widen with the reduction, so that large slices are anti-aliased.
        """
        from PIL import Image

        height, width = pixels.shape[:2]
        left, right = _span(self.x1, self.width, width, size)
        top, bottom = _span(self.y1, self.height, height, size)
        window = _padded_window(pixels, left, top, right, bottom)
        box = (self.x1 - left, self.y1 - top)
        return np.asarray(
            Image.fromarray(window).resize(
                (size, size),
                _filter(resampling),
                box=(*box, box[0] + self.width, box[1] + self.height),
            )
        )

    def write(
        self, values: NDArray[np.float32], shape_hw: tuple[int, int], outside: float
    ) -> NDArray[np.float32]:
        """Resample model values float32 (size, size) to a slice (H, W), ``outside`` the crop."""
        from PIL import Image

        size = values.shape[0]
        result = np.full(shape_hw, outside, np.float32)
        left, top = max(0, math.ceil(self.x1)), max(0, math.ceil(self.y1))
        right = min(shape_hw[1], math.floor(self.x1 + self.width))
        bottom = min(shape_hw[0], math.floor(self.y1 + self.height))
        if left >= right or top >= bottom:
            return result
        corners = self.to_crop_px(np.array([[left, top], [right, bottom]]), size)
        image = Image.fromarray(np.ascontiguousarray(values, np.float32))
        result[top:bottom, left:right] = image.resize(
            (right - left, bottom - top),
            Image.Resampling.BILINEAR,
            box=tuple(np.clip(corners, 0, size).ravel()),
        )
        return result


def whole_slice(image: SliceImage) -> Crop:
    """The crop that is the slice itself, squeezed to a square as SAM2 does it."""
    height, width = image.pixels.shape[:2]
    return Crop(0.0, 0.0, float(width), float(height))


def padded_slice(image: SliceImage) -> Crop:
    """The slice in the top left corner of a square that is black elsewhere, as SAM pads it."""
    side = float(max(image.shape_hw))
    return Crop(0.0, 0.0, side, side)


def crop_for_prompt(image: SliceImage, prompt: SlicePrompt, zoom: float) -> Crop:
    """The square (in mm) around a prompt that the model is to see.

    With a box its side is about ``zoom`` times the box's longer side. Without one the target's size
    is unknown, and the side is half the slice's, around the first positive point. Side and centre
    move in steps, so that a small change of the box, or a further point inside the crop, leaves the
    crop as it is and a cached embedding of it can be used again.
    """
    if prompt.bbox_xyxy_px is not None:
        crop = square_around_box(prompt.bbox_xyxy_px, image.spacing_xy_mm, zoom)
    else:
        crop = _square_around_point(image, prompt)
    points = np.array(prompt.points_xy_px, float).reshape(-1, 2)
    return crop if crop.contains(points) else _grown(crop, points)


def square_around_box(bbox_xyxy_px: XYXY, spacing_xy_mm: XY, zoom: float) -> Crop:
    """A square in mm of about ``zoom`` times the box's longer side, in quantised steps."""
    x1, y1, x2, y2 = bbox_xyxy_px
    side = max((x2 - x1) * spacing_xy_mm[0], (y2 - y1) * spacing_xy_mm[1]) * zoom
    return _square(((x1 + x2) / 2, (y1 + y2) / 2), side, spacing_xy_mm)


def _square_around_point(image: SliceImage, prompt: SlicePrompt) -> Crop:
    pairs = zip(prompt.points_xy_px, prompt.point_labels, strict=True)
    first = next(point for point, label in pairs if label == 1)
    height, width = image.pixels.shape[:2]
    spacing = image.spacing_xy_mm
    return _square(first, max(width * spacing[0], height * spacing[1]) / 2, spacing)


def _square(centre_xy_px: XY, side_mm: float, spacing_xy_mm: XY) -> Crop:
    side_mm = max(side_mm, MIN_CROP_PX * min(spacing_xy_mm))
    exponent = round(math.log2(side_mm) * _SIDE_STEPS_PER_OCTAVE)
    side_mm = 2.0 ** (exponent / _SIDE_STEPS_PER_OCTAVE)
    step = side_mm / _CENTRE_STEPS_PER_SIDE
    corner, size = [], []
    for centre, spacing in zip(centre_xy_px, spacing_xy_mm, strict=True):
        centre_mm = round(centre * spacing / step) * step
        corner.append((centre_mm - side_mm / 2) / spacing)
        size.append(side_mm / spacing)
    return Crop(corner[0], corner[1], size[0], size[1])


def _grown(crop: Crop, points_xy_px: NDArray[np.float64]) -> Crop:
    """The crop doubled about its centre until it holds all points."""
    while not crop.contains(points_xy_px):
        crop = Crop(
            crop.x1 - crop.width / 2, crop.y1 - crop.height / 2, crop.width * 2, crop.height * 2
        )
    return crop


def _filter(resampling: Resampling) -> Image.Resampling:
    from PIL import Image

    return {
        Resampling.LINEAR: Image.Resampling.BILINEAR,
        Resampling.CUBIC: Image.Resampling.BICUBIC,
        Resampling.NEAREST: Image.Resampling.NEAREST,
    }[resampling]


def _span(start: float, length: float, limit: int, size: int) -> tuple[int, int]:
    """First and last + 1 pixel to resample from along one axis.

    Where the crop lies inside the image, the filter may read the pixels around it; where it reaches
    over the border, it ends where the crop ends.
    """
    reach = math.ceil(max(1.0, length / size)) + 1
    first, last = math.floor(start), math.ceil(start + length)
    return (
        first if first < 0 else max(0, first - reach),
        last if last > limit else min(limit, last + reach),
    )


def _padded_window(
    pixels: NDArray[np.uint8], left: int, top: int, right: int, bottom: int
) -> NDArray[np.uint8]:
    """``pixels[top:bottom, left:right]`` with zeros where that is beyond the border."""
    window = np.zeros((bottom - top, right - left, *pixels.shape[2:]), np.uint8)
    height, width = pixels.shape[:2]
    ys, xs = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
    if ys.start < ys.stop and xs.start < xs.stop:
        window[ys.start - top : ys.stop - top, xs.start - left : xs.stop - left] = pixels[ys, xs]
    return window


def check_prompt(image: SliceImage, prompt: SlicePrompt) -> None:
    """Check that a prompt can be used on an image.

    Raises:
        PromptError: if it holds neither box nor positive point, is malformed, or lies outside.
    """
    height, width = image.pixels.shape[:2]
    if len(prompt.points_xy_px) != len(prompt.point_labels):
        raise PromptError(
            f"Received {len(prompt.points_xy_px)} points and {len(prompt.point_labels)} labels; "
            "give one label (1 inside, 0 outside) for each point."
        )
    if not set(prompt.point_labels) <= {0, 1}:
        raise PromptError(f"Point labels are {prompt.point_labels}; expected 1 or 0 for each.")
    if not prompt.points_at_target:
        raise PromptError("The prompt holds neither a box nor a point inside the target.")
    if prompt.last_mask is not None and prompt.last_mask.shape != (height, width):
        raise PromptError(
            f"The last mask has shape {prompt.last_mask.shape}; the slice has {(height, width)}."
        )
    for x, y in prompt.points_xy_px:
        if not (0 <= x <= width and 0 <= y <= height):
            raise PromptError(f"Point ({x}, {y}) lies outside the slice of {width} x {height} px.")
    if prompt.bbox_xyxy_px is not None:
        x1, y1, x2, y2 = prompt.bbox_xyxy_px
        if not (x1 < x2 and y1 < y2 and x2 > 0 and y2 > 0 and x1 < width and y1 < height):
            raise PromptError(
                f"Box {prompt.bbox_xyxy_px} is empty or lies outside the slice of {width} x "
                f"{height} px; expected (x1, y1, x2, y2) with x1 < x2 and y1 < y2."
            )
        if not all(math.isfinite(edge) for edge in prompt.bbox_xyxy_px):
            raise PromptError(f"Box {prompt.bbox_xyxy_px} is not finite.")
