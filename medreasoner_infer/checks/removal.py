# SPDX-License-Identifier: Apache-2.0
"""Whether an answer depends on what it points to: that is taken away, and the question asked again.

It is taken away in several ways, since what replaces it may itself look like the target. *Filled
in*: the mask with a margin gets what surrounds it, each pixel the nearest one outside, blurred, and
the grain of the ring around the region, so that neither a hole nor an edge tells where it was.
*Emptied*: mask and box with a margin become as dark as the darkest of the slice. *Greyed*: they
become as grey as the middle of what the slice shows, since what is dark anyway, as the lungs, is
not taken away by emptying it. An answer that stays after all of them does not come from what is
there. It stays as long as its box moves no more than it does when something else is taken away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medreasoner_infer.agreement import grounding_iou
from medreasoner_infer.checks_record import Removal, RemovalTest
from medreasoner_infer.hooks import Hooks, Work
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.request import AskRequest
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import (
    XYXY,
    Grounding,
    ReasonerAnswer,
    ReasonerRequest,
    SliceImage,
)

SAME_BOX_IOU: Final = 0.5
"""From here on two boxes are the same answer."""
MOVED_MEAN_IOU: Final = 0.75
"""An answer stays above it, taken over all ways of taking the region away; as much as an answer
has left that is gone in one way of four and does not move in the others."""
WAYS: Final[tuple[tuple[Removal, float, bool], ...]] = (
    ("filled", 0.02, False),
    ("emptied", 0.05, True),
    ("greyed", 0.05, True),
    ("greyed", 0.08, True),
)
"""How a region is taken away: by what, how far beyond it in shares of the slice's longer side, and
whether the box belongs to it besides the mask."""
CONTENT_ABOVE: Final = 12
"""Displayed grey; darker is air, of which nothing can be taken away."""
_DARKEST_PERCENT, _PLAIN_GRAIN = 1.0, 4.0
_GRAIN_PX, _BLUR_PX = 2.0, 3.0
_MOVES = 64


@dataclass(frozen=True, eq=False)
class Taken:
    """A region, bool (H, W) in slice px, and how it is taken away."""

    how: Removal
    region_hw: NDArray[np.bool_]

    def of(self, shown: DisplayedSlice) -> DisplayedSlice:
        """The slice without it."""
        return without(shown, self.region_hw, self.how)

    def moved(self, shift_xy: tuple[int, int]) -> Taken:
        """The same elsewhere on the slice, which must hold it whole."""
        return replace(self, region_hw=np.roll(self.region_hw, shift_xy[::-1], axis=(0, 1)))


def removal_test(
    reasoner: Reasoner,
    shown: DisplayedSlice,
    request: AskRequest,
    first: Grounding,
    mask_hw: NDArray[np.bool_],
    hooks: Hooks,
) -> RemovalTest | None:
    """Ask again without the region that was pointed at, until it is clear that the answer goes.

    Args:
        reasoner: who answered.
        shown: the slice that was read.
        request: the question as the reasoner was asked it.
        first: its answer, in reasoner px.
        mask_hw: the mask on the slice, bool (H, W) in slice px; where it is empty the box counts.
        hooks: of the caller, whose device is waited for.

    Returns:
        ``None`` where the answer points to nothing, or to all of the slice.

    Raises:
        ServiceError: the reasoner cannot answer now.
        CancelledError: the caller cancelled.
    """
    if first.bbox_xyxy_px is None:
        return None
    ways = pointed_at(mask_hw, shown.mapping.reasoner_box_to_slice_px(first.bbox_xyxy_px))
    replies: list[Grounding] = []
    for taken in ways:
        question = taken.of(shown).request(
            request.query, reasoner.image_encoding, about=request.about
        )
        replies.append(_answered(reasoner, question, hooks).grounding)
        if answer_goes(first, replies, len(ways)):
            break
    return compared(first, replies, ways) if replies else None


def _answered(reasoner: Reasoner, question: ReasonerRequest, hooks: Hooks) -> ReasonerAnswer:
    (answer,) = hooks.compute(
        Work.ANSWER, lambda cancelled: reasoner.answer(question, cancelled=cancelled)
    )
    return answer


def pointed_at(mask_hw: NDArray[np.bool_], box_xyxy_px: XYXY) -> list[Taken]:
    """What is taken away, and how; nothing that is no part of the slice, or all of it.

    Args:
        mask_hw: bool (H, W) in slice px; where it is empty the ellipse in the box stands for it.
        box_xyxy_px: of the answer, in slice px.
    """
    mask = mask_hw if mask_hw.any() else _ellipse(box_xyxy_px, mask_hw.shape)
    taken = [
        Taken(how, region_around(mask, margin, box_xyxy_px if with_box else None))
        for how, margin, with_box in WAYS
    ]
    return [each for each in taken if each.region_hw.any() and not each.region_hw.all()]


def region_around(
    mask_hw: NDArray[np.bool_], margin: float, box_xyxy_px: XYXY | None = None
) -> NDArray[np.bool_]:
    """A mask, and a box where one is given, with a margin in shares of the longer side."""
    if box_xyxy_px is not None:
        mask_hw = mask_hw | _rectangle(box_xyxy_px, mask_hw.shape)
    return _grown(mask_hw, margin)


def _grown(mask: NDArray[np.bool_], margin: float) -> NDArray[np.bool_]:
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) <= margin * max(mask.shape))


def without(
    shown: DisplayedSlice, region_hw: NDArray[np.bool_], how: Removal = "filled"
) -> DisplayedSlice:
    """The slice as displayed without a region of it, bool (H, W) in slice px."""
    image = shown.image
    mark = hashlib.sha256(np.packbits(region_hw).tobytes()).hexdigest()[:16]
    pixels = replaced(image.pixels, region_hw, how)
    return replace(
        shown, image=SliceImage(pixels, image.spacing_xy_mm, f"{image.key}/{how}-{mark}")
    )


def emptied(pixels: NDArray[np.uint8], region_hw: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pixels, uint8 (H, W) or (H, W, 3), of which a region is as dark as the slice's darkest.

    The same region of the same pixels is always emptied alike.
    """
    return _plain(pixels, region_hw, np.percentile(pixels, _DARKEST_PERCENT, axis=(0, 1)))


def greyed(pixels: NDArray[np.uint8], region_hw: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pixels, uint8 (H, W) or (H, W, 3), of which a region has the median of what is not air.

    The same region of the same pixels is always greyed alike.
    """
    seen = pixels[content_of(pixels)]
    return _plain(pixels, region_hw, np.median(seen if len(seen) else pixels[region_hw], axis=0))


def _plain(
    pixels: NDArray[np.uint8], region_hw: NDArray[np.bool_], value: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """The pixels with one value, of all channels, and a little grain in a region."""
    grain = np.random.default_rng(0).normal(0, _PLAIN_GRAIN, int(region_hw.sum()))
    made = pixels.copy()
    made[region_hw] = np.clip(np.rint(np.add.outer(grain, value)), 0, 255)
    return made


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


_REPLACED: Final[dict[Removal, Callable[..., NDArray[np.uint8]]]] = {
    "filled": filled,
    "emptied": emptied,
    "greyed": greyed,
}


def replaced(
    pixels: NDArray[np.uint8], region_hw: NDArray[np.bool_], how: Removal
) -> NDArray[np.uint8]:
    """Pixels, uint8 (H, W) or (H, W, 3), of which a region is taken away."""
    return _REPLACED[how](pixels, region_hw)


def content_of(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a slice, uint8 (H, W) or (H, W, 3), shows more than air; bool (H, W)."""
    brightest = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    return np.asarray(brightest > CONTENT_ABOVE)


def elsewhere(
    region_hw: NDArray[np.bool_], content_hw: NDArray[np.bool_], seed: int
) -> tuple[int, int] | None:
    """How far to move a region, in px to the right and down, to a random other place.

    Args:
        region_hw: bool (H, W).
        content_hw: bool (H, W), where the slice is not empty: at least half of the other place.
        seed: equal seeds give equal places.

    Returns:
        ``None`` where no such place is found that the region does not overlap.
    """
    rows, columns = np.nonzero(region_hw)
    height, width = region_hw.shape
    rng = np.random.default_rng(seed)
    for _ in range(_MOVES):
        down = int(rng.integers(-rows.min(), height - rows.max()))
        right = int(rng.integers(-columns.min(), width - columns.max()))
        moved = (rows + down, columns + right)
        if not region_hw[moved].any() and content_hw[moved].mean() >= 0.5:
            return right, down
    return None


def answer_stays(first: Grounding, second: Grounding) -> bool:
    """Whether two answers point to the same: both present, and the boxes' IoU is 0.5 or more."""
    return _overlap(first, second) >= SAME_BOX_IOU


def answer_goes(first: Grounding, replies: Sequence[Grounding], ways: int) -> bool:
    """Whether an answer goes with its region: the mean IoU over all ways is too small.

    Args:
        first: the answer, with a box.
        replies: what is answered without the region, maybe not yet in all ways; the others count as
            if nothing moved, so that what goes already goes whatever they say.
        ways: how many there are.
    """
    moved = sum(1.0 - _overlap(first, reply) for reply in replies)
    return 1.0 - moved / ways <= MOVED_MEAN_IOU


def _overlap(first: Grounding, second: Grounding) -> float:
    """IoU of the boxes; 0 where one points to nothing."""
    return grounding_iou(first, second) if first.present and second.present else 0.0


def compared(first: Grounding, replies: Sequence[Grounding], ways: Sequence[Taken]) -> RemovalTest:
    """What the answers without the region tell of the first; recorded is the one that differs most.

    Args:
        first: the answer, with a box.
        replies: at least one, of the first ways.
        ways: all of them.
    """
    depends = answer_goes(first, replies, len(ways))
    most = min(range(len(replies)), key=lambda at: _overlap(first, replies[at]))
    reply, taken = replies[most], ways[most]
    iou = round(_overlap(first, reply), 4) if reply.present else None
    told = _explained(reply, iou, taken.how) if depends else _STAYS
    return RemovalTest(depends, reply.outcome, iou, int(taken.region_hw.sum()), told, taken.how)


_STAYS: Final = (
    "The answer does not depend on what is there: with the region filled in, emptied or greyed, "
    "the model points to the same place. It answers by position."
)
_IN_WORDS: Final[dict[Removal, str]] = {
    "filled": "filled in",
    "emptied": "emptied",
    "greyed": "greyed",
}


def _explained(reply: Grounding, iou: float | None, how: Removal) -> str:
    if iou is not None and iou >= SAME_BOX_IOU:
        said = "the box moves more than it does without another region"
    elif reply.present:
        said = "the model points to another place"
    elif reply.outcome == "absent":
        said = "the model says that the target is not there"
    else:
        said = "the model no longer understands the question"
    return f"The answer depends on what is there: with the region {_IN_WORDS[how]}, {said}."


def _rectangle(box_xyxy_px: XYXY, shape_hw: tuple[int, ...]) -> NDArray[np.bool_]:
    x1, y1, x2, y2 = box_xyxy_px
    rows, columns = np.ogrid[: shape_hw[0], : shape_hw[1]]
    across: NDArray[Any] = (columns + 0.5 >= x1) & (columns + 0.5 <= x2)
    return np.asarray(across & (rows + 0.5 >= y1) & (rows + 0.5 <= y2))


def _ellipse(box_xyxy_px: XYXY, shape_hw: tuple[int, ...]) -> NDArray[np.bool_]:
    x1, y1, x2, y2 = box_xyxy_px
    rows, columns = np.ogrid[: shape_hw[0], : shape_hw[1]]
    half_width, half_height = max(x2 - x1, 1.0) / 2, max(y2 - y1, 1.0) / 2
    across: NDArray[Any] = (columns + 0.5 - (x1 + x2) / 2) / half_width
    down: NDArray[Any] = (rows + 0.5 - (y1 + y2) / 2) / half_height
    return np.asarray(across**2 + down**2 <= 1.0)
