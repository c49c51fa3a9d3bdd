# SPDX-License-Identifier: Apache-2.0
"""Volumes kept in memory between questions about the same study."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medreasoner_infer.byte_cache import ByteCache
from medreasoner_infer.errors import CancelledError, UnreadableImageError
from medreasoner_infer.imaging import Volume, load_volume
from monailabel_app.common.waiting import caller_has_left
from monailabel_app.images.source import ImageSource

_POLL_S = 0.2

LoadVolume = Callable[[ImageSource], Volume]
_Key = tuple[str, "str | None", "str | None", int, int]


def read_volume(source: ImageSource) -> Volume:
    """Read the voxels that ``source`` stands for, of a DICOM series from its DICOM files.

    Raises:
        UnreadableImageError: if they cannot be read.
    """
    path = source.dicom_folder or source.path
    return load_volume(path, modality=source.modality, series_uid=source.series_uid)


class VolumeCache:
    """Least recently used volumes, bounded in bytes; safe to use from several threads.

    A volume is known by its path, modification time and size, so a replaced file is read anew.
    While a volume is being read, others that want the same one wait for it.

    Args:
        max_bytes: of all kept voxels; a larger volume is returned but not kept.
        load: reads a volume.
    """

    def __init__(self, max_bytes: int, load: LoadVolume = read_volume) -> None:
        self._load = load
        self._kept: ByteCache[_Key, Volume] = ByteCache(max_bytes, lambda v: v.array.nbytes)
        self._lock = threading.Lock()
        self._loading: dict[_Key, threading.Lock] = {}

    @property
    def kept_bytes(self) -> int:
        """Bytes of the voxels kept now."""
        with self._lock:
            return self._kept.nbytes

    def get(self, source: ImageSource) -> Volume:
        """The volume of ``source``, from memory if its file has not changed.

        Raises:
            UnreadableImageError: if it cannot be read.
            CancelledError: if the caller left while another reads it.
        """
        if not source.lasting:
            return self._load(source)
        key = _key(source)
        with self._lock:
            loading = self._loading.setdefault(key, threading.Lock())
        try:
            with _held(loading):
                return self._kept_volume(key) or self._keep(key, self._load(source))
        finally:
            with self._lock:
                self._loading.pop(key, None)

    def forget(self, path: Path) -> None:
        """Keep what was read from ``path`` no longer; nobody will ask about it again."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == str(path)]:
                del self._kept[key]

    def _kept_volume(self, key: _Key) -> Volume | None:
        with self._lock:
            return self._kept.get(key)

    def _keep(self, key: _Key, volume: Volume) -> Volume:
        with self._lock:
            self._kept.keep(key, volume)
        return volume


@contextmanager
def _held(lock: threading.Lock) -> Iterator[None]:
    while not lock.acquire(timeout=_POLL_S):
        if caller_has_left():
            raise CancelledError("The caller left while the image was being read.")
    try:
        yield
    finally:
        lock.release()


def _key(source: ImageSource) -> _Key:
    try:
        status = os.stat(source.path)
    except OSError as error:
        raise UnreadableImageError(
            "The image's file is not there any more; reload the list of studies."
        ) from error
    name = str(source.path)
    return name, source.series_uid, source.modality, status.st_mtime_ns, status.st_size
