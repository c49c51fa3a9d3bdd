# SPDX-License-Identifier: Apache-2.0
"""Two ways to follow a target through the slices: re-prompting, and the memory of a SAM2."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.keypoints import bbox_from_mask, key_points_from_mask
from medreasoner_infer.segmenters.crop import (
    Crop,
    crop_for_prompt,
    padded_slice,
    whole_slice,
)
from medreasoner_infer.segmenters.engine import SliceEngine, mask_on_crop, slice_logits
from medreasoner_infer.segmenters.memory import SliceMemory
from medreasoner_infer.segmenters.settings import SamSettings
from medreasoner_infer.segmenters.stopping import TrackedMask
from medreasoner_infer.types import SliceImage, SliceMask, SlicePrompt


def crop_of(image: SliceImage, prompt: SlicePrompt, zoom: float | None, pad: bool = False) -> Crop:
    """The crop that a prompt is read in; without zoom the whole slice, squeezed or padded."""
    if zoom is not None:
        return crop_for_prompt(image, prompt, zoom)
    return padded_slice(image) if pad else whole_slice(image)


def prompt_from_mask(mask: NDArray[np.bool_], image: SliceImage) -> SlicePrompt | None:
    """Box and two key points of a mask, or ``None`` if it is empty."""
    box = bbox_from_mask(mask)
    points = key_points_from_mask(mask, image.spacing_xy_mm)
    if box is None or points is None:
        return None
    return SlicePrompt(box, points, (1, 1))


class RepromptTracker:
    """Prompts each slice with the last mask: its box, its key points and, if set, itself."""

    def __init__(self, engine: SliceEngine, settings: SamSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._first = self._last = np.zeros((0, 0), bool)

    def begin(
        self, index: int, image: SliceImage, prompt: SlicePrompt, mask: NDArray[np.bool_]
    ) -> None:
        """Start from the prompted slice and its mask, bool (H, W)."""
        self._first = self._last = mask

    def turn(self) -> None:
        """Go back to the prompted slice."""
        self._last = self._first

    def step(self, index: int, image: SliceImage) -> TrackedMask | None:
        """Segment the next slice; ``None`` if there is nothing left to prompt with.

        Whether the target goes on is asked at the first look, which comes from the neighbour.
        """
        tracked = self._look(image, self._last)
        if tracked is None:
            return None
        for _ in range(self._settings.looks - 1):
            again = self._look(image, tracked.slice_mask.mask)
            if again is None:
                break
            tracked = TrackedMask(again.slice_mask, tracked.presence)
        self._last = tracked.slice_mask.mask
        return tracked

    def _look(self, image: SliceImage, mask: NDArray[np.bool_]) -> TrackedMask | None:
        """Segment a slice from a mask of the target on it or beside it, bool (H, W)."""
        prompt = prompt_from_mask(mask, image)
        if prompt is None:
            return None
        if self._settings.mask_prompt:
            prompt = replace(prompt, last_mask=mask)
        crop = crop_of(image, prompt, self._settings.zoom, self._settings.pad)
        return self._engine.segment_next(image, prompt, crop)


class MemoryTracker:
    """Follows the target by SAM2's memory attention, in one crop for all slices."""

    def __init__(self, engine: SliceEngine, settings: SamSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._memory: SliceMemory | None = None
        self._crop: Crop | None = None

    def begin(
        self, index: int, image: SliceImage, prompt: SlicePrompt, mask: NDArray[np.bool_]
    ) -> None:
        """Remember the prompted slice; the crop is chosen to hold its mask, bool (H, W).

        Where box and points say nothing of the target, what is remembered is the mask as it is.
        """
        shown = prompt_from_mask(mask, image) or prompt
        self._crop = crop_of(image, shown, self._settings.memory_zoom, self._settings.pad)
        with self._engine.inference() as network:
            self._memory = SliceMemory(network)
            embedding = self._engine.embed_once(image, self._crop)
            if prompt.points_at_target:
                self._memory.prompt(index, embedding, network.sparse_prompt(prompt, self._crop))
            else:
                self._memory.show(index, embedding, mask_on_crop(mask, self._crop, network))

    def turn(self) -> None:
        """Keep the prompted slice alone in memory."""
        assert self._memory is not None, "begin() comes first"  # nosec B101 # our own mistake
        self._memory.forget_recent()

    def step(self, index: int, image: SliceImage) -> TrackedMask:
        """Segment the next slice from memory."""
        assert self._memory is not None, "begin() comes first"  # nosec B101 # our own mistake
        assert self._crop is not None, "begin() comes first"  # nosec B101 # likewise
        with self._engine.inference():
            embedding = self._engine.embed_once(image, self._crop)
            candidate = self._memory.step(index, embedding)
        mask = slice_logits(candidate, self._crop, image) > 0
        return TrackedMask(SliceMask(mask, candidate.predicted_iou), candidate.presence)
