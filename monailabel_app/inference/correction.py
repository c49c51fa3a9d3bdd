# SPDX-License-Identifier: Apache-2.0
"""What corrects an answer: the reader's box and points, and the mask that they see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import (
    Plane,
    SliceMapping,
    Volume,
    load_volume,
    slice_index_at,
    slice_mapping,
)
from medreasoner_infer.request import Click, SegmentRequest, SliceSelection
from medreasoner_infer.result import Inference
from medreasoner_infer.slice_choice import plane_of
from medreasoner_infer.types import READER, XYXY, XYZ, PromptSources, SlicePrompt
from monailabel_app.inference.params import InferParams

# Of a voxel: what viewers write as decimals comes back so close.
_SAME_PLACE = 1e-3


@dataclass(frozen=True)
class PlacedPoint:
    """A point, LPS mm; ``is_new`` where the mask that is corrected does not know it yet.

    With a closed contour on its slice it stands for all that lies within.
    """

    position_lps_mm: XYZ
    inside: bool
    source: str = READER
    is_new: bool = True
    contour_lps_mm: tuple[XYZ, ...] = ()


@dataclass(frozen=True)
class SentMask:
    """A mask as runs of alternating zeros and ones, zeros first, I fastest."""

    shape_ijk: tuple[int, int, int]
    runs: tuple[int, ...]

    def on_grid(self, volume: Volume) -> NDArray[np.bool_]:
        """Its voxels, bool (I, J, K).

        Raises:
            InputError: if it is no mask of this image.
        """
        if self.shape_ijk != volume.shape_ijk:
            raise InputError(
                f"The mask to correct has {self.shape_ijk} voxels and the image "
                f"{volume.shape_ijk}; send the mask of this image."
            )
        filled, voxels = sum(self.runs), math.prod(self.shape_ijk)
        if filled != voxels:
            raise InputError(
                f"The runs of the mask to correct cover {filled} voxels; expected all {voxels}."
            )
        values = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs)
        return values.reshape(self.shape_ijk, order="F")


@dataclass(frozen=True)
class Correction:
    """Opposite corners of a box (none or two) and points, LPS mm, and the mask on the screen.

    With a mask its new points correct it; without one they all prompt the segmenter anew, unless a
    contour is among the new ones: those correct a mask that is empty.
    """

    box_lps_mm: tuple[XYZ, ...] = ()
    box_source: str = READER
    points: tuple[PlacedPoint, ...] = ()
    last: SentMask | None = None

    def request(self, volume: Volume, params: InferParams) -> SegmentRequest:
        """In slice px of the slice that was drawn on; the box is cut at the slice's edge.

        What was set on another slice says nothing of this one and is left out.

        Raises:
            SliceOutOfRangeError: if it lies beside the volume.
            InputError: if the mask is none of this image.
        """
        plane = plane_of(volume, params.selection)
        index = slice_index_at(volume, plane, self._position_lps_mm(params))
        mapping = slice_mapping(volume, plane, index)
        here = [
            point
            for point in self.points
            if slice_index_at(volume, plane, point.position_lps_mm) == index
        ]
        corrects = self._corrects
        new = [point for point in here if corrects and point.is_new]
        old = [point for point in here if not (corrects and point.is_new)]
        box = self._box(volume, mapping)
        return SegmentRequest(
            SliceSelection(plane.value, index, window=params.selection.window),
            _prompt(box, old, mapping),
            tuple(_click(point, volume, mapping) for point in new),
            params.propagate,
            PromptSources(
                None if box is None else self.box_source, tuple(point.source for point in old)
            ),
            self._last_mask(volume),
        )

    @property
    def _corrects(self) -> bool:
        return self.last is not None or any(
            point.is_new and point.contour_lps_mm for point in self.points
        )

    def _last_mask(self, volume: Volume) -> NDArray[np.bool_] | None:
        if self.last is not None:
            return self.last.on_grid(volume)
        return np.zeros(volume.shape_ijk, dtype=bool) if self._corrects else None

    def _position_lps_mm(self, params: InferParams) -> XYZ:
        """A position on the slice that is meant: as said, clicked last, or drawn on.

        Raises:
            InputError: if nothing tells.
        """
        new = [point.position_lps_mm for point in self.points if point.is_new]
        clicked = new[-1:] if self._corrects else []
        inside = [point.position_lps_mm for point in self.points if point.inside]
        said = params.selection.position_lps_mm
        found = ([said] if said else []) + clicked + list(self.box_lps_mm) + inside
        if not found:
            raise InputError("Say which slice is corrected: give its 'position', or a new point.")
        return found[0]

    def _box(self, volume: Volume, mapping: SliceMapping) -> XYXY | None:
        if not self.box_lps_mm:
            return None
        if slice_index_at(volume, mapping.plane, self.box_lps_mm[0]) != mapping.index:
            return None
        height, width = mapping.shape_hw
        corners_px = mapping.lps_to_slice_px(np.array(self.box_lps_mm))
        corners_px = np.clip(corners_px, 0, (width, height))
        (x1, y1), (x2, y2) = corners_px.min(axis=0), corners_px.max(axis=0)
        return float(x1), float(y1), float(x2), float(y2)


@dataclass(frozen=True)
class EarlierAnswer:
    """An answer that a stock client names, so that its clicks join that answer's prompts and mask.

    Such a client sends all of its clicks each time; those that the answer knows are not new.
    """

    answer: Inference
    mask_file: Path

    def request(self, volume: Volume, params: InferParams) -> SegmentRequest:
        """The clicks that are new, on the slice of the last of them.

        Raises:
            InputError: if the answer is about another image.
        """
        new = [click for click in params.clicks if not self._knows(click)]
        plane = Plane(self.answer.slice.plane)
        if params.selection.plane is not None:
            plane = plane_of(volume, params.selection)
        axis = slice_mapping(volume, plane, 0).slice_axis
        index = new[-1].index_along(axis) if new else self.answer.slice.index
        shown = self.answer.slice
        is_same_slice = (shown.plane, shown.index) == (plane.value, index)
        prompts = self.answer.prompts if is_same_slice else None
        return SegmentRequest(
            SliceSelection(plane.value, index, window=params.selection.window),
            None if prompts is None else prompts.slice_prompt(),
            tuple(click for click in new if click.index_along(axis) == index),
            params.propagate,
            None if prompts is None else PromptSources(prompts.bbox_source, prompts.point_sources),
            kept_mask(self.mask_file, volume, "inference_id"),
        )

    def _knows(self, click: Click) -> bool:
        prompts = self.answer.prompts
        if prompts is None:
            return False
        known = zip(prompts.points_ijk, prompts.point_labels, prompts.point_sources, strict=True)
        return any(
            source == READER
            and (label == 1) == click.positive
            and np.allclose(position, click.position_ijk, atol=_SAME_PLACE)
            for position, label, source in known
        )


def kept_mask(mask_file: Path, volume: Volume, named_by: str) -> NDArray[Any]:
    """The mask (I, J, K) that is kept of an answer about ``volume``.

    Raises:
        InputError: it lies on another grid, so that what ``named_by`` names is about another image.
    """
    mask = load_volume(mask_file)
    same_grid = mask.shape_ijk == volume.shape_ijk and (
        volume.is_picture or np.allclose(mask.ijk_to_lps, volume.ijk_to_lps, atol=1e-2)
    )
    if not same_grid:
        raise InputError(f"The answer that '{named_by}' names is about another image.")
    return mask.array


def _prompt(
    box_xyxy_px: XYXY | None, points: list[PlacedPoint], mapping: SliceMapping
) -> SlicePrompt:
    positions = np.reshape([point.position_lps_mm for point in points], (-1, 3))
    points_px = tuple((float(x), float(y)) for x, y in mapping.lps_to_slice_px(positions))
    return SlicePrompt(box_xyxy_px, points_px, tuple(int(point.inside) for point in points))


def _click(point: PlacedPoint, volume: Volume, mapping: SliceMapping) -> Click:
    """The point as a click on the mapped slice, also where it lies between two slices."""
    positions = np.array([point.position_lps_mm, *point.contour_lps_mm])
    to_ijk = np.linalg.inv(volume.ijk_to_lps)
    ijk = positions @ to_ijk[:3, :3].T + to_ijk[:3, 3]
    ijk[:, mapping.slice_axis] = mapping.index
    position, *contour = ((float(i), float(j), float(k)) for i, j, k in ijk)
    return Click(position, point.inside, tuple(contour))
