# SPDX-License-Identifier: Apache-2.0
"""The SAM and SAM2 families as a :class:`Segmenter`."""

from __future__ import annotations

from collections.abc import Iterator

from medreasoner_infer.errors import PromptError
from medreasoner_infer.hooks import Cancelled
from medreasoner_infer.segmenters.base import FrameSource, PropagationStrategy, SliceProgress
from medreasoner_infer.segmenters.crop import check_prompt
from medreasoner_infer.segmenters.engine import SliceEngine
from medreasoner_infer.segmenters.network import Network
from medreasoner_infer.segmenters.propagation import Tracker, propagate_both_ways
from medreasoner_infer.segmenters.settings import SamSettings
from medreasoner_infer.segmenters.trackers import (
    MemoryTracker,
    RepromptTracker,
    crop_of,
    prompt_from_mask,
)
from medreasoner_infer.types import ModelIdentity, SliceImage, SliceMask, SlicePrompt

CACHE_BYTES = 256 * 2**20


class SamSegmenter:
    """A frozen SAM or SAM2 that answers prompts; safe to call from several threads.

    Args:
        network: the loaded network.
        identity: which weights these are.
        settings: zoom, candidates and propagation.
        cache_bytes: bound of the cache of image embeddings.

    Raises:
        ValueError: if a network without a memory is to follow a target by its memory.
    """

    def __init__(
        self,
        network: Network,
        identity: ModelIdentity,
        settings: SamSettings,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if settings.strategy is PropagationStrategy.MEMORY and not network.remembers:
            raise ValueError(f"{identity.name} has no memory; let it propagate by re-prompting.")
        self._engine = SliceEngine(network, settings, cache_bytes)
        self._identity = identity
        self.settings = settings

    @property
    def identity(self) -> ModelIdentity:
        """Which weights answer."""
        return self._identity

    def segment_slice(self, image: SliceImage, prompt: SlicePrompt) -> SliceMask:
        """Segment the prompted target on one slice; see :class:`Segmenter`.

        A model that zooms reads a prompt without a box twice: once to find the target's size, and
        once zoomed to what it found.
        """
        check_prompt(image, prompt)
        self._check_kind(prompt)
        zoom = self.settings.zoom
        coarse = self._engine.segment(
            image, prompt, crop_of(image, prompt, zoom, self.settings.pad)
        )
        found = prompt_from_mask(coarse.mask, image)
        if zoom is None or prompt.bbox_xyxy_px is not None or found is None:
            return coarse
        assert found.bbox_xyxy_px is not None  # nosec B101 # for the type checker
        seen = SlicePrompt(found.bbox_xyxy_px, prompt.points_xy_px, prompt.point_labels)
        return self._engine.segment(image, prompt, crop_of(image, seen, zoom))

    def propagate(
        self,
        frames: FrameSource,
        start_index: int,
        prompt: SlicePrompt,
        *,
        progress: SliceProgress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Iterator[tuple[int, SliceMask]]:
        """Segment the prompted slice and its neighbours; see :class:`Segmenter`."""
        return propagate_both_ways(
            self.segment_slice,
            self._make_tracker(),
            self.settings.stop,
            frames,
            start_index,
            prompt,
            progress=progress,
            cancelled=cancelled,
        )

    def propagate_mask(
        self,
        frames: FrameSource,
        start_index: int,
        mask: SliceMask,
        *,
        progress: SliceProgress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Iterator[tuple[int, SliceMask]]:
        """Segment the neighbours of a slice whose mask is known; see :class:`Segmenter`."""
        return propagate_both_ways(
            lambda image, prompt: mask,
            self._make_tracker(),
            self.settings.stop,
            frames,
            start_index,
            SlicePrompt(None, last_mask=mask.mask),
            progress=progress,
            cancelled=cancelled,
        )

    def _check_kind(self, prompt: SlicePrompt) -> None:
        if self.settings.box_only and prompt.bbox_xyxy_px is None:
            raise PromptError(
                f"{self._identity.name} was trained on boxes alone and the prompt holds none; give "
                "a box, or choose a segmenter that knows points."
            )

    def _make_tracker(self) -> Tracker:
        if self.settings.strategy is PropagationStrategy.MEMORY:
            return MemoryTracker(self._engine, self.settings)
        return RepromptTracker(self._engine, self.settings)
