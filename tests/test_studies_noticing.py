# SPDX-License-Identifier: Apache-2.0
"""Files that come, grow and go below a folder of studies that a server watches."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel")

from watchdog.observers import Observer

from medreasoner_infer.errors import UnreadableImageError
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.studies import noticing
from monailabel_app.studies.indexed import IndexedFolder
from monailabel_app.studies.local import StudiesFolder
from monailabel_app.studies.noticing import LookAgain

WAIT_S = 60.0
SLICES = 6
GRID = CtGrid((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ct_series(folder: Path, slices: int = SLICES) -> Path:
    return write_ct_series(np.zeros((slices, 4, 5), np.int16), GRID, folder, seed=1)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[StudiesFolder]:
    folder = tmp_path / "studies"
    folder.mkdir()
    store = StudiesFolder(folder, folder / ".medreasoner" / "series")
    yield store
    store._observer.stop()
    store._observer.join()
    wait_for(lambda: not store._look_again._is_looking)


def copies(store: StudiesFolder) -> list[tuple[int, ...]]:
    """Shapes of the copies for viewers of what is listed."""
    paths = [store.image_file(image_id) for image_id in store.list_images()]
    return [nibabel.load(path).shape for path in paths if path is not None]


def test_a_folder_of_dicom_that_is_copied_in_is_offered_whole(watched, tmp_path) -> None:
    shutil.copytree(ct_series(tmp_path / "ct"), Path(watched._studies) / "patient" / "ct")
    wait_for(lambda: copies(watched) == [(5, 4, SLICES)])


def test_a_folder_of_dicom_that_is_moved_in_and_away_comes_and_goes(watched, tmp_path) -> None:
    made = ct_series(tmp_path / "ct")
    made.rename(watched._studies / "ct")
    wait_for(lambda: copies(watched) == [(5, 4, SLICES)])
    (watched._studies / "ct").rename(tmp_path / "away")
    wait_for(lambda: not watched.list_images())


def test_slices_that_arrive_later_with_older_times_are_in_the_copy(watched, tmp_path) -> None:
    first, *others = sorted(ct_series(tmp_path / "ct").iterdir())
    for slice_file in others:
        os.utime(slice_file, (1_000_000_000, 1_000_000_000))
    target = watched._studies / "ct"
    target.mkdir()
    shutil.copy2(first, target)
    wait_for(lambda: copies(watched) == [(5, 4, 1)])
    for slice_file in others:
        shutil.copy2(slice_file, target)
    wait_for(lambda: copies(watched) == [(5, 4, SLICES)])


def test_a_slice_that_is_still_being_written_is_looked_at_again(watched, tmp_path) -> None:
    (made,) = ct_series(tmp_path / "ct", slices=1).iterdir()
    content = made.read_bytes()
    with (watched._studies / "slice.dcm").open("wb") as arriving:
        arriving.write(content[:200])
        arriving.flush()
        wait_for(watched.set_aside)
        arriving.write(content[200:])
    wait_for(watched.list_images)
    assert not watched.set_aside()


def test_a_series_that_could_not_be_read_for_a_moment_is_offered_at_the_next_look(
    watched, tmp_path, monkeypatch
) -> None:
    from monailabel_app.studies import local

    write, failed = local.write_nifti_copy, []

    def failing_once(series, folder):
        if not failed:
            failed.append(series.image_id)
            raise UnreadableImageError("the share is away")
        return write(series, folder)

    monkeypatch.setattr(local, "write_nifti_copy", failing_once)
    shutil.copytree(ct_series(tmp_path / "ct"), watched._studies / "ct")
    wait_for(lambda: failed)
    watched.refresh()
    assert watched.list_images() == failed
    assert not watched.set_aside()


@pytest.mark.parametrize("call", ["schedule", "start"])  # where the versions of watchdog ask
def test_where_the_system_gives_no_more_watches_files_are_noticed_all_the_same(
    tmp_path, monkeypatch, caplog, call
) -> None:
    def no_more_watches(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(
        noticing, "Observer", type("Exhausted", (Observer,), {call: no_more_watches})
    )
    store = StudiesFolder(tmp_path, tmp_path / ".medreasoner" / "series")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "a.nii")
    wait_for(lambda: store.list_images() == ["a"])
    store._observer.stop()
    assert "fs.inotify.max_user_instances" in caplog.text


def test_a_folder_that_only_the_server_writes_is_not_watched(tmp_path) -> None:
    class Cache(IndexedFolder):
        own_folder = True

    assert not hasattr(Cache(str(tmp_path / "cache"), auto_reload=True), "_observer")


def test_a_thousand_changes_make_one_look_and_one_more_for_those_meanwhile() -> None:
    looks, first_look, go_on = [], threading.Event(), threading.Event()

    def look() -> None:
        looks.append(threading.current_thread().name)
        first_look.set()
        assert go_on.wait(WAIT_S)

    again = LookAgain(look, settled_s=0.05)
    for _ in range(1_000):
        again.changed()
    assert first_look.wait(WAIT_S)
    for _ in range(1_000):
        again.changed()
    assert len(looks) == 1
    go_on.set()
    wait_for(lambda: not again._is_looking)
    assert len(looks) == 2


def test_changes_that_never_settle_are_looked_at_all_the_same() -> None:
    looked = threading.Event()
    again = LookAgain(looked.set, settled_s=WAIT_S, at_latest_s=0.1)
    again.changed()
    assert looked.wait(WAIT_S / 2)


def test_a_change_after_a_look_is_looked_at() -> None:
    looks: list[int] = []
    again = LookAgain(lambda: looks.append(1), settled_s=0.01)
    for count in (1, 2, 3):
        again.changed()
        wait_for(lambda count=count: len(looks) == count and not again._is_looking)
