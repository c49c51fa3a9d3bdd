# SPDX-License-Identifier: Apache-2.0
"""Carrying a mask from slice to slice, both ways from the prompted one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import SliceOutOfRangeError
from medreasoner_infer.hooks import Cancelled, raise_if_cancelled
from medreasoner_infer.segmenters.base import FrameSource, SliceProgress
from medreasoner_infer.segmenters.settings import StopRule
from medreasoner_infer.segmenters.stopping import GreyValues, StoppingCriterion, TrackedMask
from medreasoner_infer.types import SliceImage, SliceMask, SlicePrompt


class Tracker(Protocol):
    """One strategy at work on one prompted target."""

    def begin(
        self, index: int, image: SliceImage, prompt: SlicePrompt, mask: NDArray[np.bool_]
    ) -> None:
        """Start from the prompted slice and its mask, bool (H, W)."""
        ...

    def turn(self) -> None:
        """Forget all slices but the prompted one; another direction follows."""
        ...

    def step(self, index: int, image: SliceImage) -> TrackedMask | None:
        """Segment the next slice in the current direction; ``None`` if nothing leads there."""
        ...


SegmentSlice = Callable[[SliceImage, SlicePrompt], SliceMask]


def propagate_both_ways(
    segment_slice: SegmentSlice,
    tracker: Tracker,
    rule: StopRule,
    frames: FrameSource,
    start_index: int,
    prompt: SlicePrompt,
    *,
    progress: SliceProgress | None = None,
    cancelled: Cancelled | None = None,
) -> Iterator[tuple[int, SliceMask]]:
    """Segment the prompted slice, then follow the target upwards and downwards.

    See :meth:`medreasoner_infer.segmenters.base.Segmenter.propagate`; faults of the request are
    raised at the call, not at the first mask.
    """
    count = len(frames)
    if not 0 <= start_index < count:
        raise SliceOutOfRangeError(
            f"Slice {start_index} was prompted; the volume has slices 0 to {count - 1}."
        )
    raise_if_cancelled(cancelled)
    first = segment_slice(frames[start_index], prompt)
    settle = progress or (lambda settled, total: None)

    def masks() -> Iterator[tuple[int, SliceMask]]:
        """The prompted slice, the slices above it, then those below."""
        yield start_index, first
        settle(1, count)
        if not first.mask.any():
            settle(count, count)
            return
        grey = GreyValues.of(frames[start_index], first.mask)
        walk = _Walk(tracker, rule, frames, grey, cancelled)
        tracker.begin(start_index, frames[start_index], prompt, first.mask)
        for index, mask in walk.along(range(start_index + 1, count), first):
            yield index, mask
            settle(index - start_index + 1, count)
        for index, mask in walk.along(range(start_index - 1, -1, -1), first):
            yield index, mask
            settle(count - index, count)
        settle(count, count)

    return masks()


@dataclass(frozen=True)
class _Walk:
    """One direction after the other, each until the target ends."""

    tracker: Tracker
    rule: StopRule
    frames: FrameSource
    grey: GreyValues
    cancelled: Cancelled | None

    def along(self, indices: range, first: SliceMask) -> Iterator[tuple[int, SliceMask]]:
        """The masks of ``indices``, in their order, up to the target's end."""
        self.tracker.turn()
        criterion = StoppingCriterion(self.rule, first, self.grey)
        for index in indices:
            raise_if_cancelled(self.cancelled)
            image = self.frames[index]
            tracked = self.tracker.step(index, image)
            if tracked is None or criterion.judge(image, tracked) is not None:
                return
            yield index, tracked.slice_mask
