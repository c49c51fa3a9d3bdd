# SPDX-License-Identifier: Apache-2.0
"""One prompted crop of one slice through the network, with cached embeddings and one lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.byte_cache import ByteCache
from medreasoner_infer.errors import OutOfMemoryError
from medreasoner_infer.segmenters.crop import Crop
from medreasoner_infer.segmenters.islands import without_islands
from medreasoner_infer.segmenters.network import Candidate, Embedding, Network
from medreasoner_infer.segmenters.settings import SamSettings
from medreasoner_infer.segmenters.stopping import TrackedMask
from medreasoner_infer.types import SliceImage, SliceMask, SlicePrompt

_OUTSIDE_LOGIT = -1e4


class SliceEngine:
    """The network and its cache; every public method may be called from several threads.

    Args:
        network: the loaded network.
        settings: how it is used.
        cache_bytes: bound of the cache of image embeddings.
    """

    def __init__(self, network: Network, settings: SamSettings, cache_bytes: int) -> None:
        self.network = network
        self.settings = settings
        self._cache: ByteCache[tuple[str, Crop], Embedding] = ByteCache(
            cache_bytes, lambda embedding: embedding.nbytes
        )
        self._lock = threading.Lock()

    @contextmanager
    def inference(self) -> Iterator[Network]:
        """The network, for one caller at a time; its memory is freed when it runs out."""
        with self._lock:
            try:
                with self.network.inference():
                    yield self.network
            except OutOfMemoryError:
                self._cache.clear()
                self.network.free_memory()
                raise

    def segment(self, image: SliceImage, prompt: SlicePrompt, crop: Crop) -> SliceMask:
        """Segment what the reader or the reasoner prompts; the target is taken to be there."""
        with self.inference() as network:
            embedding, cached = self._embed(image, crop, keep=True)
            candidate = self._decode(network, embedding, prompt, crop)
        return self._to_slice(candidate, crop, image, prompt, cached).slice_mask

    def segment_next(self, image: SliceImage, prompt: SlicePrompt, crop: Crop) -> TrackedMask:
        """Segment a target that was prompted on the neighbouring slice and may have ended.

        Args:
            image: this slice.
            prompt: the target on the neighbouring slice, maybe with the neighbour's mask.
            crop: part of the slice to read.
        """
        with self.inference() as network:
            embedding, _ = self._embed(image, crop, keep=False)
            candidate = self._decode(network, embedding, prompt, crop)
        return self._to_slice(candidate, crop, image, prompt)

    def embed_once(self, image: SliceImage, crop: Crop) -> Embedding:
        """A single view's embedding, not kept, for a caller inside :meth:`inference`."""
        return self.network.encode(image.pixels, crop)

    def _decode(
        self, network: Network, embedding: Embedding, prompt: SlicePrompt, crop: Crop
    ) -> Candidate:
        if self.settings.box_only:
            prompt = SlicePrompt(prompt.bbox_xyxy_px)
        sparse = network.sparse_prompt(prompt, crop, self.settings.mirror)
        mask = prompt.last_mask
        shown = None if mask is None else mask_on_crop(mask, crop, network)
        return network.decode(embedding, sparse, shown)

    def _embed(self, image: SliceImage, crop: Crop, keep: bool) -> tuple[Embedding, bool]:
        key = (image.key, crop)
        cached = self._cache.get(key)
        if cached is not None:
            return cached, True
        embedding = self.network.encode(image.pixels, crop, self.settings.mirror)
        if keep:
            self._cache.keep(key, embedding)
        return embedding, False

    def _to_slice(
        self,
        candidate: Candidate,
        crop: Crop,
        image: SliceImage,
        prompt: SlicePrompt,
        from_cache: bool = False,
    ) -> TrackedMask:
        logits = slice_logits(candidate, crop, image)
        mask = without_islands(logits, prompt, self.settings.min_island_ratio)
        return TrackedMask(SliceMask(mask, candidate.predicted_iou, from_cache), candidate.presence)


def mask_on_crop(mask: NDArray[np.bool_], crop: Crop, network: Network) -> NDArray[np.float32]:
    """A mask, bool (H, W), as a crop shows it to the network: float32 (size, size) in 0...1."""
    grey = crop.read(mask.astype(np.uint8) * 255, network.input_size)
    return grey.astype(np.float32) / 255


def slice_logits(candidate: Candidate, crop: Crop, image: SliceImage) -> NDArray[np.float32]:
    """A candidate's logits on the slice's own pixels, float32 (H, W)."""
    return crop.write(candidate.logits, image.shape_hw, _OUTSIDE_LOGIT)
