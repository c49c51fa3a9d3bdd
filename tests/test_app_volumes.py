# SPDX-License-Identifier: Apache-2.0
"""The volumes kept in memory."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import Volume
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache

WAIT_S = 20


def start(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class Reader:
    """Counts what it reads; every volume has 1000 bytes."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, source: ImageSource) -> Volume:
        self.read.append(source.path.name)
        voxels = np.zeros((10, 10, 10), dtype=np.uint8)
        return Volume(voxels, np.eye(4), "CT", source.path.name, source.path)


@pytest.fixture
def sources(tmp_path: Path) -> list[ImageSource]:
    made = []
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
        made.append(ImageSource(tmp_path / name, name))
    return made


def test_a_study_asked_several_times_is_read_once(sources) -> None:
    reader = Reader()
    cache = VolumeCache(5000, reader)
    assert cache.get(sources[0]) is cache.get(sources[0])
    assert reader.read == ["a"]


def test_a_replaced_file_is_read_anew(sources) -> None:
    reader = Reader()
    cache = VolumeCache(5000, reader)
    cache.get(sources[0])
    os.utime(sources[0].path, ns=(1, 1))
    cache.get(sources[0])
    assert reader.read == ["a", "a"]


def test_the_least_recently_used_volume_goes_first(sources) -> None:
    a, b, c = sources
    reader = Reader()
    cache = VolumeCache(2000, reader)
    for source in (a, b, a, c, a, b):
        cache.get(source)
    assert reader.read == ["a", "b", "c", "b"]
    assert cache.kept_bytes == 2000


def test_a_volume_beyond_the_bound_is_given_but_not_kept(sources) -> None:
    reader = Reader()
    cache = VolumeCache(999, reader)
    assert cache.get(sources[0]).array.nbytes == 1000
    assert cache.kept_bytes == 0


def test_an_upload_is_not_kept(sources, tmp_path: Path) -> None:
    reader = Reader()
    cache = VolumeCache(5000, reader)
    upload = ImageSource(tmp_path / "a", lasting=False)
    cache.get(upload)
    cache.get(upload)
    assert reader.read == ["a", "a"]
    assert cache.kept_bytes == 0


def test_threads_that_want_the_same_volume_wait_for_one_reading(sources) -> None:
    reader = Reader()
    reading, proceed = threading.Event(), threading.Event()

    def slow(source: ImageSource) -> Volume:
        reading.set()
        assert proceed.wait(WAIT_S)
        return reader(source)

    cache = VolumeCache(5000, slow)
    threads = [start(lambda: cache.get(sources[0])) for _ in range(4)]
    assert reading.wait(WAIT_S)
    proceed.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert reader.read == ["a"]


def test_a_vanished_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="not there any more"):
        VolumeCache(5000, Reader()).get(ImageSource(tmp_path / "gone"))
