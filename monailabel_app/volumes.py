# SPDX-License-Identifier: Apache-2.0
"""Volumes kept in memory between questions about the same study."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import Volume

LoadVolume = Callable[[Path, "str | None"], Volume]
_Key = tuple[str, int, int, "str | None"]


class VolumeCache:
    """Least recently used volumes, bounded in bytes; safe to use from several threads.

    A volume is known by its path, modification time and size, so a replaced file is read anew.
    While a volume is being read, others that want the same one wait for it.

    Args:
        load: reads a file or a folder of one DICOM series; second argument is the modality.
        max_bytes: of all kept voxels; a larger volume is returned but not kept.
    """

    def __init__(self, load: LoadVolume, max_bytes: int) -> None:
        self._load = load
        self._max_bytes = max_bytes
        self._kept: OrderedDict[_Key, Volume] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._loading: dict[_Key, threading.Lock] = {}

    @property
    def kept_bytes(self) -> int:
        """Bytes of the voxels kept now."""
        with self._lock:
            return self._bytes

    def get(self, path: Path, modality: str | None = None) -> Volume:
        """The volume at ``path``, from memory if the file has not changed.

        Raises:
            UnreadableImageError: if it cannot be read.
        """
        key = _key(path, modality)
        with self._lock:
            loading = self._loading.setdefault(key, threading.Lock())
        try:
            with loading:
                return self._kept_volume(key) or self._keep(key, self._load(path, modality))
        finally:
            with self._lock:
                self._loading.pop(key, None)

    def _kept_volume(self, key: _Key) -> Volume | None:
        with self._lock:
            volume = self._kept.get(key)
            if volume is not None:
                self._kept.move_to_end(key)
            return volume

    def _keep(self, key: _Key, volume: Volume) -> Volume:
        with self._lock:
            if volume.array.nbytes <= self._max_bytes and key not in self._kept:
                self._kept[key] = volume
                self._bytes += volume.array.nbytes
                while self._bytes > self._max_bytes:
                    _, dropped = self._kept.popitem(last=False)
                    self._bytes -= dropped.array.nbytes
        return volume


def _key(path: Path, modality: str | None) -> _Key:
    try:
        status = os.stat(path)
    except OSError as error:
        raise UnreadableImageError(
            "The image's file is not there any more; reload the list of studies."
        ) from error
    return str(path), status.st_mtime_ns, status.st_size, modality
