# SPDX-License-Identifier: Apache-2.0
"""Doubt through the volume: some readings are followed, and the slices to look at are found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.doubt.looks import Look
from medreasoner_infer.doubt_record import DoubtfulSlice, Reason
from medreasoner_infer.hooks import Hooks, Work
from medreasoner_infer.imaging import put_mask, slice_mapping
from medreasoner_infer.masks import Target, masks_in_turns
from medreasoner_infer.segmenters.base import Segmenter

MOST_FOLLOWED = 3
"""Readings that are carried through the volume, the answer included."""
ALIKE_DICE = 0.97
"""Readings that overlap so far are followed as one."""

MOST_EXPECTED_WRONG = 0.12
MOST_DIFFERING = 0.25
"""Both in px of the slice by px of the mask's largest section: an error matters by its size."""
REACH_BEYOND = 0.5
"""Of the radius of a disc as large as the last section: so far beyond it the target may go on."""


def followed_of(looks: Sequence[Look], dice: NDArray[np.float64]) -> list[int]:
    """Which readings are followed: the answer, then in turn the one least like those before.

    Args:
        looks: the answer first.
        dice: of each pair, (N, N).
    """
    chosen = [0]
    others = {at for at, look in enumerate(looks) if look.mask.any()} - {0}
    while others and len(chosen) < MOST_FOLLOWED:
        likeness = {at: float(dice[at, chosen].max()) for at in sorted(others)}
        least = min(likeness, key=lambda at: likeness[at])
        if likeness[least] >= ALIKE_DICE:
            break
        chosen.append(least)
        others.remove(least)
    return chosen


def weights_of(
    looks: Sequence[Look], dice: NDArray[np.float64], chosen: Sequence[int]
) -> list[int]:
    """For how many readings each followed one stands: for those that are most like it.

    Readings without a mask are stood for by none.
    """
    weights = [0] * len(chosen)
    for at, look in enumerate(looks):
        if look.mask.any():
            weights[int(dice[at, list(chosen)].argmax())] += 1
    return weights


def followed_mask(look: Look, segmenter: Segmenter, hooks: Hooks) -> NDArray[np.uint8]:
    """The mask (I, J, K) of a reading that is carried through the volume, 0 or 1."""
    volume, mapping = look.shown.volume, look.shown.mapping
    mask_ijk = np.zeros(volume.shape_ijk, dtype=np.uint8, order="F")
    if look.prompt is None:
        return mask_ijk
    target = Target(look.shown, look.prompt, None, propagated=True)
    for index, found in masks_in_turns(segmenter, target, _unhurried(hooks)):
        put_mask(found.mask, slice_mapping(volume, mapping.plane, index), mask_ijk)
    return mask_ijk


def _unhurried(hooks: Hooks) -> Hooks:
    """Hooks that tell nothing, and under which no slice goes before those of other readers."""
    return Hooks(
        cancelled=hooks.cancelled,
        take_turn=lambda _: hooks.turn(Work.PROPAGATION),
        compute_in=hooks.compute_in,
    )


@dataclass(frozen=True)
class SliceFigures:
    """What speaks for or against one slice of a propagated mask.

    Attributes:
        index: voxel index along the cut axis.
        expected_wrong: by the segmenter's own estimate, as a share of the px of the mask's largest
            section: px of the section, times 1 minus its estimated IoU; 0 where the answer marks
            nothing.
        differing: px on which the readings differ, each by the share of the fewer among them, as
            the same share.
        is_end: the answer's mask ends here, or has ended a little before.
    """

    index: int
    expected_wrong: float
    differing: float
    is_end: bool

    @property
    def reason(self) -> Reason | None:
        """Why to look at it, if there is one."""
        if self.expected_wrong > MOST_EXPECTED_WRONG:
            return "segmenter"
        if self.differing > MOST_DIFFERING:
            return "readings"
        return "end" if self.is_end else None


def slice_figures(
    mask_kxy: NDArray[np.uint8],
    readings_kxy: NDArray[np.uint8],
    readings: int,
    px_per_slice: float,
    predicted_ious: Mapping[int, float],
) -> Iterator[SliceFigures]:
    """The figures of each slice that any reading marks, or that is near the answer's ends.

    Args:
        mask_kxy: the answer's mask, slices first, 0 or 1.
        readings_kxy: how many readings mark each voxel, likewise.
        readings: how many there are.
        px_per_slice: distance of two slices in sides of a pixel.
        predicted_ious: by slice that the answer was carried to.
    """
    areas = mask_kxy.sum(axis=(1, 2), dtype=np.int64)
    ends = near_ends(areas, px_per_slice)
    largest = max(int(areas.max(initial=0)), 1)
    for index, area in enumerate(areas.tolist()):
        counts = readings_kxy[index].astype(np.int64)
        if not (counts.any() or area or index in ends):
            continue
        wrong_px = area * (1.0 - predicted_ious.get(index, 1.0))
        differing_px = np.minimum(counts, readings - counts).sum() / readings
        yield SliceFigures(index, wrong_px / largest, float(differing_px / largest), index in ends)


def near_ends(areas: NDArray[np.int64], px_per_slice: float) -> set[int]:
    """The last slices of a mask both ways, and those beyond to which its target may go on.

    A target narrows towards its end: one that breaks off at a large section was lost rather than
    ended. Where the image ends nothing is beyond.

    Args:
        areas: of the mask by slice, in px.
        px_per_slice: distance of two slices in sides of a pixel.
    """
    (marked,) = np.nonzero(areas)
    found: set[int] = set()
    for end, step in ((marked[-1], 1), (marked[0], -1)) if marked.size else ():
        radius_px = math.sqrt(areas[end] / math.pi)
        reach = max(1, math.ceil(REACH_BEYOND * radius_px / px_per_slice))
        beyond = range(end + step, end + step * (reach + 1), step)
        within = {int(index) for index in beyond if 0 <= index < len(areas)}
        if within:
            found |= within | {int(end)}
    return found


def doubtful_slices(figures: Iterator[SliceFigures]) -> tuple[DoubtfulSlice, ...]:
    """Those with a reason to look at them."""
    judged = ((each.index, each.reason) for each in figures)
    return tuple(DoubtfulSlice(index, reason) for index, reason in judged if reason is not None)
