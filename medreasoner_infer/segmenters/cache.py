# SPDX-License-Identifier: Apache-2.0
"""The embeddings that were used last, within a bound in bytes."""

from __future__ import annotations

from collections import OrderedDict

from medreasoner_infer.segmenters.crop import Crop
from medreasoner_infer.segmenters.network import Embedding

EmbeddingKey = tuple[str, Crop]


class EmbeddingCache:
    """Least-recently-used embeddings by (slice key, crop). Not locked: its owner is.

    Args:
        max_bytes: bound of all embeddings together; one that is larger by itself is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[EmbeddingKey, Embedding] = OrderedDict()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    def get(self, key: EmbeddingKey) -> Embedding | None:
        """The embedding, now the one used last, or ``None``."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: EmbeddingKey, embedding: Embedding) -> None:
        """Keep an embedding and let go of the oldest ones beyond the bound."""
        if embedding.nbytes > self.max_bytes or key in self._entries:
            return
        self._entries[key] = embedding
        self._bytes += embedding.nbytes
        while self._bytes > self.max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.nbytes

    def clear(self) -> None:
        """Let go of everything."""
        self._entries.clear()
        self._bytes = 0
