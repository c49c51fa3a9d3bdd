# SPDX-License-Identifier: Apache-2.0
"""Which slices of a target become samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_TAPERED = 0.5


def present_slices(
    areas_px: NDArray[np.float64], min_area_px: float, max_slices: int, asked: int | None = None
) -> list[int]:
    """Slices evenly through the target, and the slice asked about if the target shows there.

    Args:
        areas_px: (N,) area of the target on each slice.
        min_area_px: smaller sections do not count, in the unit of ``areas_px``.
        max_slices: at most so many are chosen.
        asked: takes the place of the chosen slice nearest to it.

    Returns:
        Indices in rising order.
    """
    usable = np.flatnonzero(areas_px >= min_area_px)
    chosen = _evenly(usable, max_slices)
    if asked is not None and asked in usable and asked not in chosen:
        chosen[int(np.argmin(np.abs(np.array(chosen) - asked)))] = asked
    return sorted(chosen)


def absent_slices(areas_px: NDArray[np.float64], spacing_mm: float, margin_mm: float) -> list[int]:
    """Slices of which a mask of the whole volume says that the target is not there.

    They lie ``margin_mm`` or more beyond its first and last section. A mask that does not taper,
    i.e. ends with a section of more than half its largest one, may stop where the reader stopped
    rather than where the target does, and says nothing beyond that end.

    Args:
        areas_px: (N,) area of the target on each slice.
        spacing_mm: distance of neighbouring slices.
        margin_mm: distance kept.
    """
    filled = np.flatnonzero(areas_px)
    if not filled.size:
        return []
    first, last = int(filled[0]), int(filled[-1])
    margin = max(1, math.ceil(margin_mm / spacing_mm))
    largest = _TAPERED * areas_px.max()
    before = range(first - margin + 1) if areas_px[first] <= largest else range(0)
    behind = range(last + margin, len(areas_px)) if areas_px[last] <= largest else range(0)
    return [*before, *behind]


def _evenly(indices: NDArray[np.int_], count: int) -> list[int]:
    """At most ``count`` of ``indices``, each from the middle of an equal share of them."""
    number = min(count, len(indices))
    if not number:
        return []
    places = np.floor((np.arange(number) + 0.5) * len(indices) / number).astype(int)
    return [int(index) for index in indices[places]]


def spread(indices: list[int], count: int) -> list[int]:
    """At most ``count`` of ``indices``, evenly spread over them."""
    return _evenly(np.array(indices, dtype=int), count)
