# SPDX-License-Identifier: Apache-2.0
"""Knowing when a target has ended, from its masks and grey values on one slice after the other.

Nothing here knows the model: the rule reads masks, displayed grey values, the predicted IoU and the
presence logit, which every SAM2 gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.segmenters.settings import StopRule
from medreasoner_infer.types import SliceImage, SliceMask

#: Interquartile range of a normal distribution of unit deviation.
_NORMAL_IQR = 1.349
#: Two samples of n and m equally distributed values differ by more than 1.36 * sqrt(1/n + 1/m) in
#: 5 % of cases (Smirnov 1948, Table for estimating the goodness of fit of empirical distributions).
_SMIRNOV_5_PERCENT = 1.36


@dataclass(frozen=True)
class TrackedMask:
    """A slice's mask and the model's presence logit for the target on that slice."""

    slice_mask: SliceMask
    presence: float


class StopReason(str, Enum):
    """What told that the target is no longer there, or that its mask has leaked."""

    EMPTY = "empty mask"
    PRESENCE = "presence"
    AREA = "area collapsed or exploded"
    OVERLAP = "lies beside the last slice's mask"
    STEP = "looks unlike the last slice"
    DOUBT = "looks unlike the prompted slice, or the predicted quality fell, or some of both"


@dataclass(frozen=True)
class GreyValues:
    """The displayed grey values of a target on one slice, sorted, at least one."""

    values: NDArray[np.float64]

    @classmethod
    def of(cls, image: SliceImage, mask: NDArray[np.bool_]) -> GreyValues:
        """Read them under a non-empty mask, bool (H, W); colours count by their mean."""
        return cls(np.sort(image.pixels[mask].reshape(int(mask.sum()), -1).mean(1)))

    @property
    def median(self) -> float:
        """Median grey level, 0 to 255."""
        return float(np.median(self.values))

    @property
    def spread(self) -> float:
        """Robust spread: the deviation of a normal distribution with the same quartiles."""
        lower, upper = np.percentile(self.values, (25, 75))
        return float(upper - lower) / _NORMAL_IQR

    def distance(self, other: GreyValues) -> float:
        """Kolmogorov-Smirnov distance of the two distributions, 0 (equal) to 1 (apart)."""
        at = np.concatenate([self.values, other.values])
        first, second = (
            np.searchsorted(values, at, side="right") / len(values)
            for values in (self.values, other.values)
        )
        return float(np.abs(first - second).max())

    def expected_distance(self, other: GreyValues) -> float:
        """The distance that chance alone exceeds in 5 % of cases at these numbers of pixels."""
        return _SMIRNOV_5_PERCENT * float(np.sqrt(1 / len(self.values) + 1 / len(other.values)))


class StoppingCriterion:
    """Follows one target in one direction and says when it has ended.

    Args:
        rule: the bounds.
        first: mask of the prompted slice, not empty.
        grey: its grey values.
    """

    def __init__(self, rule: StopRule, first: SliceMask, grey: GreyValues) -> None:
        self._rule = rule
        self._last_mask = first.mask
        self._first_grey = self._last_grey = grey
        self._ious = [first.predicted_iou]

    def judge(self, image: SliceImage, tracked: TrackedMask) -> StopReason | None:
        """Judge the next slice; ``None``: the target goes on and the slice is remembered."""
        mask = tracked.slice_mask.mask
        ended = self._judge_shape(mask, tracked.presence)
        if ended is not None:
            return ended
        grey = GreyValues.of(image, mask)
        self._ious.append(tracked.slice_mask.predicted_iou)
        step = grey.distance(self._last_grey) - grey.expected_distance(self._last_grey)
        self._last_mask, self._last_grey = mask, grey
        if step > self._rule.max_grey_step:
            return StopReason.STEP
        return StopReason.DOUBT if self._doubt(grey) > 1 else None

    def _judge_shape(self, mask: NDArray[np.bool_], presence: float) -> StopReason | None:
        rule, area, last_area = self._rule, int(mask.sum()), int(self._last_mask.sum())
        if area == 0:
            return StopReason.EMPTY
        if presence < rule.min_presence:
            return StopReason.PRESENCE
        ratio = max(area, rule.small_area_px) / max(last_area, rule.small_area_px)
        if not rule.min_area_ratio <= ratio <= rule.max_area_ratio:
            return StopReason.AREA
        overlap = int((mask & self._last_mask).sum()) / min(area, last_area)
        return StopReason.OVERLAP if overlap < rule.min_overlap else None

    def _doubt(self, grey: GreyValues) -> float:
        """Change of grey and loss of quality, each in units of its bound, added up."""
        rule, first = self._rule, self._first_grey
        change = abs(grey.median - first.median) / max(first.spread, rule.min_grey_spread)
        return change / rule.max_grey_change + self._quality_loss() / rule.max_quality_loss

    def _quality_loss(self) -> float:
        """How far the predicted IoU of two slices lies below its median so far, relative to it."""
        if len(self._ious) < 3:
            return 0.0
        usual = max(float(np.median(self._ious)), 1e-6)
        return max(0.0, 1 - float(np.mean(self._ious[-2:])) / usual)
