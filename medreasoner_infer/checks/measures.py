# SPDX-License-Identifier: Apache-2.0
"""What statements are tested by: measures of a mask on the slice that was read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medreasoner_infer.imaging import edge_letters, slice_values
from medreasoner_infer.keypoints import bbox_from_mask
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import XY, XYXY

SURROUNDINGS = 0.03
"""Width of the ring that counts as a mask's surroundings, of the slice's longer side."""
_BODY_PX = 160
_AIR_HU, _AIR_GREY = -300.0, 12
_SEEN_COSINE = 0.7

PatientAxis = Literal["L", "P", "S"]
_AXIS_NUMBER: dict[PatientAxis, int] = {"L": 0, "P": 1, "S": 2}
#: Letters of an edge of the display, by the axis whose positive or negative end they tell.
_ENDS: dict[PatientAxis, tuple[str, str]] = {"L": ("R", "L"), "P": ("A", "P"), "S": ("F", "H")}


@dataclass(frozen=True)
class Brightness:
    """Means inside a mask and in the ring around it: of displayed grey (0...255) and of values."""

    grey_inside: float
    grey_around: float
    value_inside: float
    value_around: float

    @property
    def difference(self) -> float:
        """By how many displayed grey levels the inside is brighter."""
        return self.grey_inside - self.grey_around


@dataclass(frozen=True)
class Form:
    """The outline of a mask: sides of its box (long by short), long by short principal axis, and
    the share of its box that it fills."""

    box_aspect: float
    axis_ratio: float
    filled: float


@dataclass(frozen=True)
class BodyOffset:
    """How far a centre lies from the middle of the body along a patient axis.

    ``offset`` grows to the axis' positive end (left, back, head); ``width`` is the body's extent
    along it. Both in mm, or px where the image does not tell its scale.
    """

    offset: float
    width: float


@dataclass(frozen=True, eq=False)
class Scene:
    """A mask, bool (H, W) in slice px and not empty, on a slice as it was displayed."""

    shown: DisplayedSlice
    mask_hw: NDArray[np.bool_]

    @property
    def unit(self) -> str:
        """Of lengths: pixels where the image does not tell its scale."""
        return "mm" if self.shown.mapping.spacing_known else "px"

    @property
    def longer_side(self) -> float:
        """Of the slice, in :attr:`unit`."""
        spacing = np.array(self.shown.mapping.spacing_xy_mm)
        return float(max(spacing * self.mask_hw.shape[::-1]))

    @cached_property
    def bbox_xyxy_px(self) -> XYXY:
        """The tight box of the mask, slice px."""
        box = bbox_from_mask(self.mask_hw)
        if box is None:
            raise ValueError("The mask is empty; a scene needs one that is not.")
        return box

    @cached_property
    def centre_xy_px(self) -> XY:
        """The centroid, slice px."""
        rows, columns = np.nonzero(self.mask_hw)
        return float(columns.mean()) + 0.5, float(rows.mean()) + 0.5

    @cached_property
    def box_centre_share(self) -> XY:
        """Centre of the mask's box in shares of the slice's width and height."""
        x1, y1, x2, y2 = self.bbox_xyxy_px
        height, width = self.mask_hw.shape
        return (x1 + x2) / 2 / width, (y1 + y2) / 2 / height

    @cached_property
    def brightness(self) -> Brightness | None:
        """``None`` where the mask has no surroundings on the slice."""
        spacing = np.array(self.shown.mapping.spacing_xy_mm)
        reach_mm = SURROUNDINGS * self.longer_side
        window = self._window(np.ceil(reach_mm / spacing).astype(int))
        inside = self.mask_hw[window]
        distance = ndimage.distance_transform_edt(~inside, sampling=spacing[::-1])
        around = ~inside & (distance <= reach_mm)
        if not around.any():
            return None
        grey = _luminance(self.shown.image.pixels[window])
        values = _luminance(slice_values(self.shown.volume, self.shown.mapping)[window])
        return Brightness(
            *(float(of[where].mean()) for of in (grey, values) for where in (inside, around))
        )

    @cached_property
    def form(self) -> Form:
        """The outline in millimetres of the slice."""
        spacing = np.array(self.shown.mapping.spacing_xy_mm)
        x1, y1, x2, y2 = self.bbox_xyxy_px
        sides = np.array([x2 - x1, y2 - y1]) * spacing
        rows, columns = np.nonzero(self.mask_hw)
        points = np.stack([columns, rows]) * spacing[:, None]
        spread = np.cov(points) if points.shape[1] > 1 else np.zeros((2, 2))
        # A pixel is not a point: its own extent keeps a line from being endless.
        short, long = np.sqrt(np.linalg.eigvalsh(spread + np.diag(spacing**2) / 12))
        area_of_box = (x2 - x1) * (y2 - y1)
        return Form(
            float(sides.max() / sides.min()),
            float(long / short),
            float(self.mask_hw.sum() / area_of_box),
        )

    @cached_property
    def share_of_body(self) -> float:
        """Area of the mask by that of the body on this slice."""
        body, step = self._body
        return float(self.mask_hw.sum() / max(1, body.sum() * step**2))

    def body_offset(self, axis: PatientAxis) -> BodyOffset | str:
        """The centroid from the middle of the body, or why that is not known."""
        towards = self._display_direction(axis)
        if towards is None:
            return "the picture does not tell how the patient lies"
        if np.hypot(*towards) < _SEEN_COSINE:
            return "this plane does not show that direction"
        body, step = self._body
        rows, columns = np.nonzero(body)
        main = int(np.argmax(np.abs(towards)))
        along = (columns, rows)[main]
        if not along.size or along.min() == 0 or along.max() == body.shape[1 - main] - 1:
            return "the body is not whole on this slice, so that its middle is not known"
        lows, highs = (np.array([pick(columns), pick(rows)], float) for pick in (np.min, np.max))
        spacing = np.array(self.shown.mapping.spacing_xy_mm)
        if not self.shown.mapping.spacing_known:
            spacing = spacing / spacing.min()
        middle = (lows + highs + 1) / 2 * step
        extent = (highs - lows + 1) * step * spacing
        offset = (np.array(self.centre_xy_px) - middle) * spacing
        return BodyOffset(float(offset @ towards), float(extent @ np.abs(towards)))

    def _display_direction(self, axis: PatientAxis) -> NDArray[np.float64] | None:
        """How far one step along display x and y leads to the positive end of a patient axis."""
        volume, mapping = self.shown.volume, self.shown.mapping
        if not volume.is_picture:
            corner, *steps = mapping.slice_px_to_lps([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
            number = _AXIS_NUMBER[axis]
            return np.array([(s - corner)[number] / np.linalg.norm(s - corner) for s in steps])
        letters = edge_letters(volume, mapping)
        if letters is None:
            return None
        _, right, _, bottom = letters
        low, high = _ENDS[axis]
        signs = {low: -1.0, high: 1.0}
        return np.array([signs.get(edge[:1], 0.0) for edge in (right, bottom)])

    def _window(self, margin_xy: NDArray[np.int_]) -> tuple[slice, slice]:
        """The mask's box and a margin, rows and columns."""
        x1, y1, x2, y2 = map(int, self.bbox_xyxy_px)
        dx, dy = map(int, margin_xy)
        return slice(max(0, y1 - dy), y2 + dy), slice(max(0, x1 - dx), x2 + dx)

    @cached_property
    def _body(self) -> tuple[NDArray[np.bool_], int]:
        """The largest thing on the slice that is no air, bool, on every ``step``-th px."""
        step = max(1, max(self.mask_hw.shape) // _BODY_PX)
        thin = np.s_[::step, ::step]
        if self.shown.volume.modality == "CT" and not self.shown.volume.is_picture:
            values: NDArray[Any] = slice_values(self.shown.volume, self.shown.mapping)
            solid = _luminance(values[thin]) > _AIR_HU
        else:
            solid = _luminance(self.shown.image.pixels[thin]) > _AIR_GREY
        parts, count = ndimage.label(solid)
        if not count:
            return solid, step
        largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
        return ndimage.binary_fill_holes(parts == largest), step


def _luminance(pixels: NDArray[Any]) -> NDArray[Any]:
    """Grey (H, W) as it is, of colour (H, W, 3) the mean."""
    return pixels.mean(axis=2) if pixels.ndim == 3 else pixels
