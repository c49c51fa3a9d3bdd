# SPDX-License-Identifier: Apache-2.0
"""Carrying a mask from slice to slice, and knowing when the target has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medreasoner_infer.errors import CancelledError, SliceOutOfRangeError
from medreasoner_infer.segmenters.base import Cancelled, FrameSource, Progress
from medreasoner_infer.segmenters.settings import StopRule
from medreasoner_infer.types import SliceImage, SliceMask, SlicePrompt


@dataclass(frozen=True)
class TrackedMask:
    """A slice's mask and the model's presence logit for the target on that slice."""

    slice_mask: SliceMask
    presence: float


@dataclass(frozen=True)
class GreyLevel:
    """Median and robust spread (a normal distribution's deviation) of a target's grey values."""

    median: float
    spread: float

    @classmethod
    def of(cls, image: SliceImage, mask: np.ndarray) -> GreyLevel:
        """Measure under a non-empty mask, bool (H, W); colours count by their mean."""
        values = image.pixels[mask].reshape(int(mask.sum()), -1).mean(1)
        lower, median, upper = np.percentile(values, (25, 50, 75))
        return cls(float(median), float(upper - lower) / 1.349)

    def left_by(self, other: GreyLevel, rule: StopRule) -> bool:
        """Whether another slice's target looks too different to be the same."""
        bound = rule.max_grey_change * max(self.spread, rule.min_grey_spread)
        return abs(other.median - self.median) > bound


class Tracker(Protocol):
    """One strategy at work on one prompted target."""

    def begin(self, index: int, image: SliceImage, prompt: SlicePrompt, mask: np.ndarray) -> None:
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
    progress: Progress | None = None,
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
    _raise_if(cancelled)
    first = segment_slice(frames[start_index], prompt)
    settle = progress or (lambda settled, total: None)

    def masks() -> Iterator[tuple[int, SliceMask]]:
        yield start_index, first
        settle(1, count)
        if not first.mask.any():
            settle(count, count)
            return
        grey = GreyLevel.of(frames[start_index], first.mask)
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
    grey: GreyLevel
    cancelled: Cancelled | None

    def along(self, indices: range, first: SliceMask) -> Iterator[tuple[int, SliceMask]]:
        self.tracker.turn()
        last = first.mask
        for index in indices:
            _raise_if(self.cancelled)
            image = self.frames[index]
            tracked = self.tracker.step(index, image)
            if tracked is None or target_ended(last, tracked, self.rule):
                return
            last = tracked.slice_mask.mask
            if self.grey.left_by(GreyLevel.of(image, last), self.rule):
                return
            yield index, tracked.slice_mask


def target_ended(previous: np.ndarray, tracked: TrackedMask, rule: StopRule) -> bool:
    """Whether a slice's mask says that the target is no longer there, or has leaked.

    Args:
        previous: the last slice's mask, bool (H, W).
        tracked: this slice's mask.
        rule: the bounds.
    """
    mask = tracked.slice_mask.mask
    area, last_area = int(mask.sum()), int(previous.sum())
    if area == 0 or last_area == 0 or tracked.presence < rule.min_presence:
        return True
    ratio = max(area, rule.small_area_px) / max(last_area, rule.small_area_px)
    overlap = int((mask & previous).sum()) / min(area, last_area)
    return not (rule.min_area_ratio <= ratio <= rule.max_area_ratio and overlap >= rule.min_overlap)


def _raise_if(cancelled: Cancelled | None) -> None:
    if cancelled is not None and cancelled():
        raise CancelledError("The propagation was cancelled.")
