# SPDX-License-Identifier: Apache-2.0
"""Whether an answer depends on what it points to: that is filled in, and the question asked again.

The region is the mask with a margin. It is filled with what surrounds it: each pixel gets the
nearest one outside, blurred, and the grain of the ring around the region, so that neither a hole
nor an edge tells where it was.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medreasoner_infer.agreement import box_iou, grounding_iou
from medreasoner_infer.checks_record import RemovalTest
from medreasoner_infer.hooks import Hooks, Work
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.request import AskRequest
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import XYXY, Grounding, SliceImage

SAME_BOX_IOU: Final = 0.5
"""From here on two boxes are the same answer."""
MARGIN: Final = 0.02
"""Of the slice's longer side: how far beyond the mask is filled."""
_GRAIN_PX, _BLUR_PX = 2.0, 3.0
_MOVES = 64


def removal_test(
    reasoner: Reasoner,
    shown: DisplayedSlice,
    request: AskRequest,
    first: Grounding,
    mask_hw: NDArray[np.bool_],
    hooks: Hooks,
) -> RemovalTest | None:
    """Ask the question again where the region that was pointed at is filled.

    Args:
        reasoner: who answered.
        shown: the slice that was read.
        request: the question as the reasoner was asked it.
        first: its answer, in reasoner px.
        mask_hw: the mask on the slice, bool (H, W) in slice px; where it is empty the box counts.
        hooks: of the caller, whose device is waited for.

    Returns:
        ``None`` where the answer points to nothing.

    Raises:
        ServiceError: the reasoner cannot answer now.
        CancelledError: the caller cancelled.
    """
    if first.bbox_xyxy_px is None:
        return None
    box = shown.mapping.reasoner_box_to_slice_px(first.bbox_xyxy_px)
    region = pointed_at(mask_hw, box)
    if not region.any() or region.all():
        return None
    question = without(shown, region).request(
        request.query, reasoner.image_encoding, about=request.about
    )
    with hooks.turn(Work.ANSWER) as cancelled:
        (second,) = reasoner.answer(question, cancelled=cancelled)
    return compared(first, second.grounding, int(region.sum()))


def pointed_at(mask_hw: NDArray[np.bool_], box_xyxy_px: XYXY) -> NDArray[np.bool_]:
    """The mask and a margin, bool (H, W); without a mask the ellipse in the box and a margin."""
    mask = mask_hw if mask_hw.any() else _ellipse(box_xyxy_px, mask_hw.shape)
    if not mask.any():
        return mask
    margin_px = MARGIN * max(mask.shape)
    return np.asarray(ndimage.distance_transform_edt(~mask) <= margin_px)


def without(shown: DisplayedSlice, region_hw: NDArray[np.bool_]) -> DisplayedSlice:
    """The slice as displayed, a region of it filled, bool (H, W) in slice px."""
    image = shown.image
    mark = hashlib.sha256(np.packbits(region_hw).tobytes()).hexdigest()[:16]
    pixels = filled(image.pixels, region_hw)
    return replace(
        shown, image=SliceImage(pixels, image.spacing_xy_mm, f"{image.key}/without-{mark}")
    )


def filled(pixels: NDArray[np.uint8], region_hw: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pixels, uint8 (H, W) or (H, W, 3), of which a region looks like what surrounds it.

    The same region of the same pixels is always filled alike.
    """
    if pixels.ndim == 3:
        channels = [filled(pixels[..., channel], region_hw) for channel in range(3)]
        return np.stack(channels, axis=-1)
    nearest = ndimage.distance_transform_edt(region_hw, return_distances=False, return_indices=True)
    values = pixels.astype(np.float32)
    base = ndimage.gaussian_filter(values[tuple(nearest)], _BLUR_PX)
    ring = ndimage.binary_dilation(region_hw, iterations=max(4, int(_BLUR_PX * 3))) & ~region_hw
    grain = (values - ndimage.gaussian_filter(values, _GRAIN_PX))[ring]
    # Organs' edges are no grain.
    low, high = np.percentile(grain, (10, 90))
    drawn = np.random.default_rng(0).choice(np.clip(grain, low, high), int(region_hw.sum()))
    made = values.copy()
    made[region_hw] = base[region_hw] + drawn
    return np.clip(np.rint(made), 0, 255).astype(np.uint8)


def elsewhere(
    region_hw: NDArray[np.bool_], content_hw: NDArray[np.bool_], seed: int
) -> NDArray[np.bool_] | None:
    """The same region at a random place that it does not overlap and that shows something.

    Args:
        region_hw: bool (H, W).
        content_hw: bool (H, W), where the slice is not empty.
        seed: equal seeds give equal places.

    Returns:
        ``None`` where no such place is found.
    """
    rows, columns = np.nonzero(region_hw)
    height, width = region_hw.shape
    rng = np.random.default_rng(seed)
    for _ in range(_MOVES):
        down = int(rng.integers(-rows.min(), height - rows.max()))
        right = int(rng.integers(-columns.min(), width - columns.max()))
        moved = np.zeros_like(region_hw)
        moved[rows + down, columns + right] = True
        if not (moved & region_hw).any() and content_hw[moved].mean() >= 0.5:
            return moved
    return None


def answer_stays(first: Grounding, second: Grounding) -> bool:
    """Whether two answers point to the same: both present, and the boxes' IoU is 0.5 or more."""
    return first.present and second.present and grounding_iou(first, second) >= SAME_BOX_IOU


def compared(first: Grounding, second: Grounding, removed_px: int) -> RemovalTest:
    """What the second answer tells of the first."""
    iou = None
    if first.bbox_xyxy_px is not None and second.bbox_xyxy_px is not None:
        iou = round(box_iou(first.bbox_xyxy_px, second.bbox_xyxy_px), 4)
    stays = answer_stays(first, second)
    return RemovalTest(not stays, second.outcome, iou, removed_px, _explained(stays, second))


def _explained(stays: bool, second: Grounding) -> str:
    if stays:
        return (
            "The answer does not depend on what is there: with the region filled in, the model "
            "points to the same place."
        )
    if second.present:
        said = "the model points to another place"
    elif second.outcome == "absent":
        said = "the model says that the target is not there"
    else:
        said = "the model no longer understands the question"
    return f"The answer depends on what is there: with the region filled in, {said}."


def _ellipse(box_xyxy_px: XYXY, shape_hw: tuple[int, ...]) -> NDArray[np.bool_]:
    x1, y1, x2, y2 = box_xyxy_px
    rows, columns = np.ogrid[: shape_hw[0], : shape_hw[1]]
    half_width, half_height = max(x2 - x1, 1.0) / 2, max(y2 - y1, 1.0) / 2
    across: NDArray[Any] = (columns + 0.5 - (x1 + x2) / 2) / half_width
    down: NDArray[Any] = (rows + 0.5 - (y1 + y2) / 2) / half_height
    return np.asarray(across**2 + down**2 <= 1.0)
