# SPDX-License-Identifier: Apache-2.0
"""The reader's marks on a mask: each changes it around its own place, and in one direction.

A click outside takes the clicked place away and adds nothing, a click inside adds it and takes
nothing away. How far a change reaches is asked of the segmenter; whatever that answers, the rule
holds, and what lies far from the click stays as the model or the reader's brush has made it.

A lasso, a closed contour, does so with all that lies within and nothing else; the segmenter is not
asked. For later clicks a place within it is a point as any other.

The reach of a click is how far it lies from where the mask changes, the radius of a disc that
misses no edge: a reader clicks into the middle of a mistake. The numbers below were chosen on
simulated readers of public images (``benchmarks/corrections.py`` with other seeds than it reports).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medreasoner_infer.keypoints import bbox_from_mask
from medreasoner_infer.types import XY, XYXY, SliceImage, SliceMask, SlicePrompt

#: Up to so many reaches away what the joined prompts say is believed ...
NEAR = 2.5
#: ... and up to so many if they say the same with the last mask as a further prompt.
FAR = 5.0
#: A mistake is nowhere wider than so many times what it is where the reader has clicked.
WIDEST = 1.5
#: A reach is at most this share of the radius of a disc as large as the mask.
MOST_OF_MASK = 0.5

_TOUCHING = np.ones((3, 3), int)

SegmentSlice = Callable[[SliceImage, SlicePrompt], SliceMask]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Correction:
    """Clicks on the last mask of a slice.

    Attributes:
        prompt: all that was set on this slice so far in slice px, whoever set it, the new points
            last, in the order in which they were set.
        new_points: how many of them the mask does not know yet.
        last_mask: bool (H, W), as the reader sees it.
        contours_xy_px: of each new point in slice px, empty where it is a click and no lasso; none
            at all where all are clicks.
    """

    prompt: SlicePrompt
    new_points: int
    last_mask: Mask
    contours_xy_px: tuple[tuple[XY, ...], ...] = ()

    def apply(self, segment: SegmentSlice, image: SliceImage) -> SliceMask:
        """Make the new points' changes, one after the other.

        A point whose place is as it wants it already changes nothing.

        Returns:
            The mask, with the segmenter's estimate of its own last answer, 1.0 if it was not asked.

        Raises:
            PromptError: if the prompt or the mask does not fit the image.
        """
        mask, predicted_iou = self.last_mask, 1.0
        points = len(self.prompt.point_labels)
        contours = self.contours_xy_px or ((),) * self.new_points
        for contour, end in zip(
            contours, range(points - self.new_points + 1, points + 1), strict=True
        ):
            if contour:
                mask = _with_lasso(mask, contour, inside=self.prompt.point_labels[end - 1] == 1)
                continue
            click = _Click.last_of(self.prompt, end, mask, image)
            if click.is_satisfied:
                continue
            answers = [segment(image, shown) for shown in _prompts(self.prompt, end, mask)]
            mask = click.changed(*(answer.mask for answer in answers))
            predicted_iou = answers[0].predicted_iou
        return SliceMask(mask, predicted_iou)


@dataclass(frozen=True, eq=False)
class _Click:
    """One click on a mask: its pixel (row, column), and what it may change."""

    mask: Mask
    at: tuple[int, int]
    inside: bool
    image: SliceImage

    @classmethod
    def last_of(cls, prompt: SlicePrompt, end: int, mask: Mask, image: SliceImage) -> _Click:
        x, y = prompt.points_xy_px[end - 1]
        height, width = image.shape_hw
        at = (min(int(y), height - 1), min(int(x), width - 1))
        return cls(mask, at, prompt.point_labels[end - 1] == 1, image)

    @property
    def is_satisfied(self) -> bool:
        return bool(self.mask[self.at]) == self.inside

    def changed(self, joined: Mask, with_mask: Mask) -> Mask:
        """The mask after the click, by the answers without and with the last mask as a prompt."""
        if not self.mask.any():
            return _part_at(joined, self.at) | self._disc(self._pixel_mm)
        region = self._region(joined, with_mask)
        if self.inside:
            return self.mask | region
        left = self.mask & ~region
        return left if left.any() else self.mask & ~self._disc(self._reach_mm)

    def _region(self, joined: Mask, with_mask: Mask) -> Mask:
        """Connected pixels around the click that change."""
        reach_mm, window = self._reach_mm, self._window
        free, away_mm = self._free[window], self._distance_mm[window]
        thin = _depth_mm(free, self._sampling, padding=self.inside) < WIDEST * reach_mm
        wanted = free & thin & (joined[window] == self.inside)
        agreed = wanted & (with_mask[window] == self.inside)
        near = wanted & (away_mm < NEAR * reach_mm)
        far = agreed & (away_mm < FAR * reach_mm)
        region = self._disc(reach_mm)
        region[window] |= near | far
        return _part_at(region, self.at)

    @property
    def _window(self) -> tuple[slice, slice]:
        """Rows and columns that hold all that may change, and what tells how wide it is there."""
        sides = (math.ceil((FAR + WIDEST) * self._reach_mm / mm) + 1 for mm in self._sampling)
        first, second = (
            slice(max(0, at - side), at + side + 1) for at, side in zip(self.at, sides, strict=True)
        )
        return first, second

    @cached_property
    def _free(self) -> Mask:
        """What the click may change: pixels outside the mask, or those of the mask."""
        return ~self.mask if self.inside else self.mask

    @cached_property
    def _reach_mm(self) -> float:
        x_mm, y_mm = self.image.spacing_xy_mm
        most = MOST_OF_MASK * float(np.sqrt(self.mask.sum() * x_mm * y_mm / np.pi))
        fixed = ~self._free
        reach = float(self._distance_mm[fixed].min()) if fixed.any() else most
        return max(min(reach, most), self._pixel_mm)

    def _disc(self, radius_mm: float) -> Mask:
        """The free pixels nearer than a radius, the clicked one at least, in one part."""
        return _part_at(self._free & (self._distance_mm < radius_mm), self.at)

    @cached_property
    def _distance_mm(self) -> NDArray[np.float64]:
        y_mm, x_mm = self._sampling
        rows, columns = np.ogrid[: self.mask.shape[0], : self.mask.shape[1]]
        return np.hypot((rows - self.at[0]) * y_mm, (columns - self.at[1]) * x_mm)

    @property
    def _sampling(self) -> XY:
        x_mm, y_mm = self.image.spacing_xy_mm
        return y_mm, x_mm

    @property
    def _pixel_mm(self) -> float:
        return min(self.image.spacing_xy_mm)


def within_contour(contour_xy_px: Sequence[XY], shape_hw: tuple[int, int]) -> Mask:
    """The pixels (H, W) whose centres lie within a closed contour in slice px.

    Where it crosses itself, what it goes around an even number of times lies outside.
    """
    from matplotlib.path import Path

    height, width = shape_hw
    rows, columns = np.mgrid[:height, :width]
    centres = np.stack((columns.ravel(), rows.ravel()), axis=1) + 0.5
    outline = Path([*contour_xy_px, contour_xy_px[0]])
    return np.asarray(outline.contains_points(centres).reshape(shape_hw))


def _with_lasso(mask: Mask, contour_xy_px: Sequence[XY], *, inside: bool) -> Mask:
    within = within_contour(contour_xy_px, (mask.shape[0], mask.shape[1]))
    return mask | within if inside else mask & ~within


def _prompts(prompt: SlicePrompt, end: int, mask: Mask) -> tuple[SlicePrompt, SlicePrompt]:
    """The first ``end`` points with a box around all of the target, without and with the mask."""
    points, labels = prompt.points_xy_px[:end], prompt.point_labels[:end]
    box = _box_around(prompt.bbox_xyxy_px, bbox_from_mask(mask), points[-1:] if labels[-1] else ())
    return SlicePrompt(box, points, labels), SlicePrompt(box, points, labels, mask)


def _box_around(box: XYXY | None, other: XYXY | None, points: tuple[XY, ...]) -> XYXY | None:
    """The box of both boxes and of points; ``None`` where neither box is there."""
    boxes = [found for found in (box, other) if found is not None]
    if not boxes:
        return None
    corners = np.array([*np.reshape(boxes, (-1, 2)), *points])
    (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
    return float(x1), float(y1), float(x2), float(y2)


def _part_at(mask: Mask, at: tuple[int, int]) -> Mask:
    """The part of a mask, connected by edges or corners, that a pixel lies in; empty if in none."""
    parts, _ = ndimage.label(mask, _TOUCHING)
    return np.asarray((parts == parts[at]) & mask)


def _depth_mm(free: Mask, sampling: XY, padding: bool) -> NDArray[np.float64]:
    """How deep each pixel lies in a region; the world beyond the slice is free or not."""
    padded = np.pad(free, 1, constant_values=padding)
    if padded.all():
        return np.full(free.shape, np.inf)
    depth = ndimage.distance_transform_edt(padded, sampling=sampling)
    return np.asarray(depth[1:-1, 1:-1])
