# SPDX-License-Identifier: Apache-2.0
"""How a SAM2 is used; a model folder's ``config.yaml`` may say it under ``inference``."""

from __future__ import annotations

from dataclasses import dataclass

from medreasoner_infer.segmenters.base import PropagationStrategy


@dataclass(frozen=True)
class StopRule:
    """When the target ends, judged by the next slice's mask against the last one's.

    ``min_presence`` bounds the model's presence logit, ``min_area_ratio`` the collapse and
    ``max_area_ratio`` the leak; areas below ``small_area_px`` count as that many, so that the tips
    of an organ may grow or shrink faster. ``min_overlap`` is the part of the smaller mask that
    must lie on the other one. ``max_grey_change`` bounds how far the target's median grey may move
    from that on the prompted slice, in spreads of the prompted target's grey; spreads below
    ``min_grey_spread`` grey levels (of 255) count as that many.
    """

    min_presence: float = 0.0
    min_area_ratio: float = 0.1
    max_area_ratio: float = 3.0
    small_area_px: int = 30
    min_overlap: float = 0.2
    max_grey_change: float = 2.0
    min_grey_spread: float = 8.0


@dataclass(frozen=True)
class Sam2Settings:
    """How a SAM2 is used.

    ``zoom``: side of the crop over the box's longer side, ``None`` reads the whole slice.
    ``memory_zoom``: the same for propagation by memory, where the crop stays.
    ``mirror``: average over the crop and its mirror image (twice the work, not with memory).
    ``multimask``: choose the best of three candidates by predicted IoU.
    ``strategy``: how masks are carried from slice to slice.
    ``mask_prompt``: whether re-prompting also shows the last mask; the model must know it.
    """

    zoom: float | None = None
    memory_zoom: float | None = None
    mirror: bool = False
    multimask: bool = True
    strategy: PropagationStrategy = PropagationStrategy.MEMORY
    mask_prompt: bool = False
    stop: StopRule = StopRule()
