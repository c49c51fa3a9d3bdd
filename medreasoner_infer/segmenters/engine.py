# SPDX-License-Identifier: Apache-2.0
"""One prompted crop of one slice through the network, with cached embeddings and one lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from medreasoner_infer.errors import OutOfMemoryError
from medreasoner_infer.segmenters.cache import EmbeddingCache
from medreasoner_infer.segmenters.crop import Crop
from medreasoner_infer.segmenters.network import Candidate, Embedding, Sam2Network
from medreasoner_infer.segmenters.stopping import TrackedMask
from medreasoner_infer.types import SliceImage, SliceMask, SlicePrompt

_OUTSIDE_LOGIT = -1e4


class SliceEngine:
    """The network and its cache; every public method may be called from several threads.

    Args:
        network: the loaded network.
        cache_bytes: bound of the cache of image embeddings.
        mirror: whether to average over each crop and its mirror image.
    """

    def __init__(self, network: Sam2Network, cache_bytes: int, mirror: bool = False) -> None:
        self.network = network
        self.mirror = mirror
        self._cache = EmbeddingCache(cache_bytes)
        self._lock = threading.Lock()

    @contextmanager
    def inference(self) -> Iterator[Sam2Network]:
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
            sparse = network.sparse_prompt(prompt, crop, self.mirror)
            candidate = network.decode(embedding, sparse)
        return to_slice(candidate, crop, image, cached).slice_mask

    def segment_next(
        self, image: SliceImage, prompt: SlicePrompt, crop: Crop, last_mask: np.ndarray | None
    ) -> TrackedMask:
        """Segment a target that was prompted on the neighbouring slice and may have ended.

        Args:
            image: this slice.
            prompt: box and points of the target on the neighbouring slice.
            crop: part of the slice to read.
            last_mask: bool (H, W), the neighbour's mask as a further prompt, or ``None``.
        """
        mask = None
        with self.inference() as network:
            if last_mask is not None:
                grey = crop.read(last_mask.astype(np.uint8) * 255, network.input_size)
                mask = grey.astype(np.float32) / 255
            embedding, _ = self._embed(image, crop, keep=False)
            sparse = network.sparse_prompt(prompt, crop, self.mirror)
            candidate = network.decode(embedding, sparse, mask)
        return to_slice(candidate, crop, image)

    def embed_once(self, image: SliceImage, crop: Crop) -> Embedding:
        """A single view's embedding, not kept, for a caller inside :meth:`inference`."""
        return self.network.encode(crop.read(image.pixels, self.network.input_size))

    def _embed(self, image: SliceImage, crop: Crop, keep: bool) -> tuple[Embedding, bool]:
        key = (image.key, crop)
        cached = self._cache.get(key)
        if cached is not None:
            return cached, True
        pixels = crop.read(image.pixels, self.network.input_size)
        embedding = self.network.encode(pixels, self.mirror)
        if keep:
            self._cache.put(key, embedding)
        return embedding, False


def to_slice(
    candidate: Candidate, crop: Crop, image: SliceImage, from_cache: bool = False
) -> TrackedMask:
    """Bring a candidate from its crop to the slice's own pixels."""
    logits = crop.write(candidate.logits, image.pixels.shape[:2], _OUTSIDE_LOGIT)
    slice_mask = SliceMask(logits > 0, candidate.predicted_iou, from_cache)
    return TrackedMask(slice_mask, candidate.presence)
