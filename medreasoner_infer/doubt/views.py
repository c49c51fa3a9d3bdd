# SPDX-License-Identifier: Apache-2.0
"""Slightly changed views of a slice, which ought to be answered alike.

None is mirrored: that would exchange the patient's sides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.follow_up import in_view
from medreasoner_infer.imaging import Window, letterbox
from medreasoner_infer.reasoners.image_encoding import prepare_image
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import XY, XYXY, EarlierTarget, Grounding, ReasonerRequest

_WHOLE: XYXY = (0.0, 0.0, 1.0, 1.0)
_AS_STORED = Window(127.5, 255.0)
"""What 8-bit images without a window are shown in."""


@dataclass(frozen=True)
class View:
    """How a slice is shown otherwise.

    Attributes:
        width: factor of the window's width.
        centre: shift of the window's centre in shares of its width.
        part_xyxy: what is seen of the reasoner's square, in shares of its side; beyond it is black.
    """

    width: float = 1.0
    centre: float = 0.0
    part_xyxy: XYXY = _WHOLE

    def displayed(self, shown: DisplayedSlice) -> DisplayedSlice:
        """The slice in this view's window; of a view of a part the slice as it is."""
        if self.width == 1.0 and self.centre == 0.0:
            return shown
        own = shown.window or _AS_STORED
        window = Window(own.center + self.centre * own.width, own.width * self.width, own.name)
        mapping = shown.mapping
        return DisplayedSlice.of(
            shown.volume, mapping.plane, mapping.index, window, model_size=mapping.model_size
        )

    def request(
        self, shown: DisplayedSlice, query: str, encoding: str, about: EarlierTarget | None = None
    ) -> ReasonerRequest:
        """The question about this view of a slice, greedy.

        Args:
            shown: the slice as :meth:`displayed`.
            query: the question.
            encoding: as the reasoner's image is encoded.
            about: the target that it follows up on.
        """
        square = part_of(letterbox(shown.image, shown.mapping), self.part_xyxy)
        part = "" if self.part_xyxy == _WHOLE else f"/{self.part_xyxy}"
        key = f"{shown.image.key}/{shown.mapping.model_size}{part}"
        seen = None if about is None else in_view(about, shown.mapping)
        return ReasonerRequest(
            prepare_image(square, encoding),
            query,
            key,
            about=seen,
            modality=shown.volume.modality_told,
        )

    def in_whole(self, grounding: Grounding, side_px: int) -> Grounding:
        """A grounding in this view (reasoner px) in the whole square, maybe beside it."""
        if grounding.bbox_xyxy_px is None or grounding.points_xy_px is None:
            return grounding
        left, top, right, bottom = self.part_xyxy

        def whole(x: float, y: float) -> XY:
            return left * side_px + x * (right - left), top * side_px + y * (bottom - top)

        x1, y1, x2, y2 = grounding.bbox_xyxy_px
        first, second = (whole(*point) for point in grounding.points_xy_px)
        return replace(
            grounding,
            bbox_xyxy_px=(*whole(x1, y1), *whole(x2, y2)),
            points_xy_px=(first, second),
        )


VIEWS: tuple[View, ...] = (
    View(width=1.25),
    View(width=0.8),
    View(part_xyxy=(0.03, 0.03, 1.03, 1.03)),
    View(part_xyxy=(-0.03, -0.03, 0.97, 0.97)),
    View(part_xyxy=(0.03, 0.03, 0.97, 0.97)),
)


def part_of(square: NDArray[np.uint8], part_xyxy: XYXY) -> NDArray[np.uint8]:
    """A part of a square (S, S, 3) at the same size, black where it reaches beyond.

    Args:
        square: uint8.
        part_xyxy: in shares of its side, edge based.
    """
    if part_xyxy == _WHOLE:
        return square
    from PIL import Image

    side = square.shape[0]
    extent = tuple(side * share for share in part_xyxy)
    seen = Image.fromarray(square).transform(
        (side, side), Image.Transform.EXTENT, extent, Image.Resampling.BICUBIC
    )
    return np.array(seen)
