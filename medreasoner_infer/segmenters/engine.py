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
        min_island_ratio: see :func:`without_islands`.
    """

    def __init__(
        self,
        network: Sam2Network,
        cache_bytes: int,
        mirror: bool = False,
        min_island_ratio: float = 0.0,
    ) -> None:
        self.network = network
        self.mirror = mirror
        self.min_island_ratio = min_island_ratio
        self._cache: ByteCache[tuple[str, Crop], Embedding] = ByteCache(
            cache_bytes, lambda embedding: embedding.nbytes
        )
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
            last_mask = prompt.last_mask
            shown = None if last_mask is None else mask_on_crop(last_mask, crop, network)
            candidate = network.decode(embedding, sparse, shown)
        return self._to_slice(candidate, crop, image, prompt, cached).slice_mask

    def segment_next(
        self,
        image: SliceImage,
        prompt: SlicePrompt,
        crop: Crop,
        last_mask: NDArray[np.bool_] | None,
    ) -> TrackedMask:
        """Segment a target that was prompted on the neighbouring slice and may have ended.

        Args:
            image: this slice.
            prompt: box and points of the target on the neighbouring slice.
            crop: part of the slice to read.
            last_mask: bool (H, W), the neighbour's mask as a further prompt, or ``None``.
        """
        with self.inference() as network:
            embedding, _ = self._embed(image, crop, keep=False)
            sparse = network.sparse_prompt(prompt, crop, self.mirror)
            shown = None if last_mask is None else mask_on_crop(last_mask, crop, network)
            candidate = network.decode(embedding, sparse, shown)
        return self._to_slice(candidate, crop, image, prompt)

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
        mask = without_islands(slice_logits(candidate, crop, image), prompt, self.min_island_ratio)
        return TrackedMask(SliceMask(mask, candidate.predicted_iou, from_cache), candidate.presence)


def mask_on_crop(mask: NDArray[np.bool_], crop: Crop, network: Sam2Network) -> NDArray[np.float32]:
    """A mask, bool (H, W), as a crop shows it to the network: float32 (size, size) in 0...1."""
    grey = crop.read(mask.astype(np.uint8) * 255, network.input_size)
    return grey.astype(np.float32) / 255


def slice_logits(candidate: Candidate, crop: Crop, image: SliceImage) -> NDArray[np.float32]:
    """A candidate's logits on the slice's own pixels, float32 (H, W)."""
    return crop.write(candidate.logits, image.shape_hw, _OUTSIDE_LOGIT)
