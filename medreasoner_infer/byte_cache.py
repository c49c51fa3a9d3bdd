# SPDX-License-Identifier: Apache-2.0
"""What was used last, kept in memory within a bound in bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cachetools import LRUCache

K = TypeVar("K")
V = TypeVar("V")


class ByteCache(LRUCache[K, V]):
    """Least recently used values leave first. Not locked: its owner is.

    Args:
        max_bytes: bound of all values together.
        nbytes: bytes of a value, which must not change while it is kept.
    """

    def __init__(self, max_bytes: int, nbytes: Callable[[V], int]) -> None:
        super().__init__(max_bytes, getsizeof=nbytes)

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return int(self.currsize)

    def keep(self, key: K, value: V) -> None:
        """Hold a value, unless it is larger than the bound by itself."""
        if self.getsizeof(value) <= self.maxsize:
            self[key] = value
