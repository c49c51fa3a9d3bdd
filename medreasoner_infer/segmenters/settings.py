# SPDX-License-Identifier: Apache-2.0
"""How a SAM is used; a SAM2 folder's ``config.yaml`` may say it under ``inference``."""

from __future__ import annotations

from dataclasses import dataclass

from medreasoner_infer.segmenters.base import PropagationStrategy


@dataclass(frozen=True)
class StopRule:
    """When the target ends; each bound alone ends it, on the first slice beyond it.

    Attributes:
        min_presence: lowest presence logit of the model.
        min_area_ratio: smallest area over the last slice's area: below it has collapsed.
        max_area_ratio: largest area over the last slice's area: above it has leaked.
        small_area_px: smaller areas count as this many px, so that an organ's tips may grow or
            shrink faster.
        min_overlap: least part of the smaller of this and the last mask that lies on the other.
        max_grey_change: how far the median grey value may move from the prompted slice's, in
            spreads of the prompted target's grey values, where the predicted quality holds.
        min_grey_spread: smaller spreads count as this many grey levels (of 255).
        max_grey_step: Kolmogorov-Smirnov distance (0 to 1) of the grey values to the last slice's,
            in excess of what chance explains at these numbers of pixels. A target's appearance
            changes gradually; that of the next organ below it begins at once.
        max_quality_loss: how far the predicted IoU, the mean of two slices, may fall below its
            median so far, relative to it, where the grey values hold.

    ``max_grey_change`` and ``max_quality_loss`` are added up, each relative to its bound: some of
    both ends a target as well. They were chosen on synthetic torsos: of 55 structures that the
    embedded segmenter followed 5 leaked by more than two slices, as many as with bounds that each
    stand alone (a quality loss of 0.1), and the mean Dice was 0.847 instead of 0.834.
    ``max_grey_step`` was chosen on one real CT, whose vertebrae end too early with less; on
    synthetic torsos 0.15 to 0.3 do equally well. The rule suits a target of one tissue: one of
    several, such as a spine with its discs, ends where the tissue changes.
    """

    min_presence: float = 0.0
    min_area_ratio: float = 0.1
    max_area_ratio: float = 3.0
    small_area_px: int = 30
    min_overlap: float = 0.2
    max_grey_change: float = 1.0
    min_grey_spread: float = 8.0
    max_grey_step: float = 0.3
    max_quality_loss: float = 0.2


@dataclass(frozen=True)
class SamSettings:
    """How a SAM or SAM2 is used.

    ``zoom``: side of the crop over the box's longer side, ``None`` reads the whole slice.
    ``pad``: whether the whole slice is padded to a square at right and bottom, or squeezed to one.
    ``box_only``: the model was trained on boxes alone. It refuses a prompt without one, and leaves
    points and masks beside a box aside.
    ``memory_zoom``: the same for propagation by memory, where the crop stays.
    ``mirror``: average over the crop and its mirror image (twice the work, not with memory).
    ``min_island_ratio``: leave out parts of a mask that hold no point and whose mean logit is below
    this share of the target's; 0 keeps all.
    ``multimask``: choose the best of three candidates by predicted IoU.
    ``strategy``: how masks are carried from slice to slice.
    ``mask_prompt``: whether re-prompting also shows the last mask; the model must know it.
    ``looks``: how often re-prompting segments each slice; from the second look on it prompts with
    the slice's own last answer, which mends what was taken over from the neighbour.
    """

    zoom: float | None = None
    pad: bool = False
    box_only: bool = False
    memory_zoom: float | None = None
    mirror: bool = False
    min_island_ratio: float = 0.0
    multimask: bool = True
    strategy: PropagationStrategy = PropagationStrategy.MEMORY
    mask_prompt: bool = False
    looks: int = 1
    stop: StopRule = StopRule()
