# SPDX-License-Identifier: Apache-2.0
"""Keeping what the model computed of an image, for the next question about it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache


@dataclass(frozen=True)
class ImagePrefix:
    """Keys and values of the tokens up to and including the image; never written to again.

    ``inputs`` holds the prefix's own (1, length) token tensors and the image's patch grid, all
    that position ids are computed from.
    """

    inputs: dict[str, torch.Tensor]
    keys_and_values: DynamicCache

    @property
    def nbytes(self) -> int:
        """Memory of keys and values."""
        layers = self.keys_and_values.layers
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)


class PrefixCache:
    """The most recently used prefixes, together at most ``max_bytes``. Not thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[str, ImagePrefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Memory of all entries."""
        return sum(entry.nbytes for entry in self._entries.values())

    def get(self, key: str) -> ImagePrefix | None:
        """The entry of ``key``, now the most recently used one."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: str, prefix: ImagePrefix) -> None:
        """Keep ``prefix``, dropping the least recently used ones beyond the limit."""
        self._entries[key] = prefix
        self._entries.move_to_end(key)
        while self.nbytes > self.max_bytes:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()
