# SPDX-License-Identifier: Apache-2.0
"""The content of the picture that a person looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import InputError
from medreasoner_infer.types import XY, XYXY, SliceImage


@dataclass(frozen=True, eq=False)
class OverlayContent:
    """What the picture shows. Empty texts and ``None`` are left out.

    Attributes:
        image: the displayed slice.
        mask: bool (H, W) on the slice's pixels.
        agreement: share (H, W) of the readings that hold each pixel, 0...1.
        bbox_xyxy_px: the reasoner's box in slice px.
        points_xy_px: key points in slice px.
        point_labels: 1 inside the target, 0 outside; empty means all inside.
        edge_letters: patient directions at the left, right, top and bottom edge.
        scale_known: pixel spacing is in millimetres, so a scale bar is drawn.
        caption: slice and window, e.g. ``"axial 54 / 112"``.
        question: what was asked.
        reasoning: the reasoner's text, shown in full.
        readings: what the readings say, e.g. ``"6 of 8: spleen; 2 of 8: stomach."``.
        outcome: what was found, e.g. ``"Target not present on this slice."``.
        present: whether a target was found; decides the outcome's colour.
        understood: whether the question was understood; likewise where nothing was found.
        models: names of the models that answered.
        notice: restriction of use, e.g. ``"Not for clinical use."``.
        warnings: sentences for the reader.
        diameters_px: lines that were measured, each between two points in slice px.
    """

    image: SliceImage
    mask: NDArray[np.bool_] | None = None
    agreement: NDArray[np.float32] | None = None
    bbox_xyxy_px: XYXY | None = None
    points_xy_px: tuple[XY, ...] = ()
    point_labels: tuple[int, ...] = ()
    edge_letters: tuple[str, str, str, str] | None = None
    scale_known: bool = True
    caption: str = ""
    question: str = ""
    reasoning: str = ""
    readings: str = ""
    outcome: str = ""
    present: bool = True
    understood: bool = True
    models: tuple[str, ...] = ()
    notice: str | None = None
    warnings: tuple[str, ...] = ()
    diameters_px: tuple[tuple[XY, XY], ...] = ()

    def __post_init__(self) -> None:
        """Check that mask and labels fit.

        Raises:
            InputError: the mask is not on the slice's pixels, or labels do not match points.
        """
        if self.mask is not None and self.mask.shape != self.image.pixels.shape[:2]:
            raise InputError(
                f"The mask has shape {self.mask.shape}, the slice "
                f"{self.image.pixels.shape[:2]}; expected the same."
            )
        if self.point_labels and len(self.point_labels) != len(self.points_xy_px):
            raise InputError(
                f"{len(self.points_xy_px)} points came with {len(self.point_labels)} labels."
            )
