# SPDX-License-Identifier: Apache-2.0
"""Images that were sent for a session: whose they are, how long they stay, and how many."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel")

from support.series import ct_study

from medreasoner_infer.errors import InputError, UnreadableImageError
from monailabel_app.errors import ServerBusyError, UnknownSessionError
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.site.sessions import MAX_SESSIONS, MAX_SESSIONS_PER_READER, Sessions

START_S = 1_000_000.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = START_S

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(tmp_path: Path, clock: Clock) -> Sessions:
    return Sessions(tmp_path / "sessions", 100, clock)


def nifti() -> io.BytesIO:
    image = nibabel.Nifti1Image(np.ones((3, 3, 3), np.int16), np.eye(4))
    return io.BytesIO(gzip.compress(image.to_bytes(), mtime=0))


def dicom(number: int) -> io.BytesIO:
    import pydicom

    content = io.BytesIO()
    pydicom.dcmwrite(content, ct_study(None).images[number], write_like_original=False)
    content.seek(0)
    return content


def test_a_file_is_kept_under_a_name_of_the_servers_own(sessions) -> None:
    session = sessions.create([nifti()], "ann")
    assert session.image.name == "00001.nii.gz"
    assert session.image.read_bytes() == nifti().getvalue()
    assert sessions.get(session.id, "ann").image == session.image


def test_several_files_of_a_series_become_a_folder(sessions) -> None:
    session = sessions.create([dicom(0), dicom(1)], None)
    assert sorted(path.name for path in session.image.iterdir()) == ["00001.dcm", "00002.dcm"]


@pytest.mark.parametrize("contents", [[], [nifti(), nifti()], [dicom(0), nifti()]])
def test_what_is_no_one_image_is_refused_and_not_kept(sessions, tmp_path, contents) -> None:
    with pytest.raises(InputError):
        sessions.create(contents, None)
    assert not list((tmp_path / "sessions").glob("*"))


@pytest.mark.parametrize(
    "content", [b"", b"import os", b"PK\3\4", b"\x7fELF", b"NRRD0004\ndata file: /etc/passwd\n\n"]
)
def test_what_is_no_image_is_refused_and_not_kept(sessions, tmp_path, content) -> None:
    with pytest.raises(UnreadableImageError):
        sessions.create([io.BytesIO(content)], None)
    assert not list((tmp_path / "sessions").glob("*"))


@pytest.mark.parametrize("other", ["bob", None, ""])
def test_another_reader_finds_no_session(sessions, other) -> None:
    session = sessions.create([nifti()], "ann")
    for look in (sessions.get, sessions.remove):
        with pytest.raises(UnknownSessionError):
            look(session.id, other)
    assert session.image.is_file()


@pytest.mark.parametrize("name", ["..", "../x", "a", "0" * 32])
def test_a_made_up_id_is_no_path(sessions, name) -> None:
    with pytest.raises(UnknownSessionError):
        sessions.get(name, None)


def test_a_session_ends_some_time_after_its_last_use(sessions, clock) -> None:
    session = sessions.create([nifti()], None)
    clock.now += 90
    sessions.get(session.id, None)
    clock.now += 90
    sessions.get(session.id, None, use=False)
    clock.now += 11
    with pytest.raises(UnknownSessionError):
        sessions.get(session.id, None)
    assert not session.image.exists()


def test_a_clock_that_is_set_back_keeps_nothing_for_ever(sessions, clock) -> None:
    session = sessions.create([nifti()], None)
    clock.now -= 7200
    assert sessions.remove_expired() == 1
    assert not session.image.exists()


def test_a_readers_oldest_session_makes_room_and_nobody_elses(sessions, clock) -> None:
    other = sessions.create([nifti()], "bob")
    made = []
    for _ in range(MAX_SESSIONS_PER_READER + 1):
        clock.now += 1
        made.append(sessions.create([nifti()], "ann"))
    assert not made[0].image.exists()
    assert all(session.image.exists() for session in [other, *made[1:]])


def test_there_is_a_limit_to_all_sessions_together(sessions) -> None:
    readers = [f"reader {number}" for number in range(MAX_SESSIONS // MAX_SESSIONS_PER_READER)]
    for reader in readers * MAX_SESSIONS_PER_READER:
        sessions.create([nifti()], reader)
    with pytest.raises(ServerBusyError):
        sessions.create([nifti()], "one more")
    assert sessions.create([nifti()], readers[0])


def test_what_an_earlier_server_left_is_removed(tmp_path) -> None:
    left = Sessions(tmp_path / "s").create([nifti()], None)
    Sessions(tmp_path / "s").clear()
    assert not left.image.exists()


def test_files_and_folders_are_the_owners_alone(sessions) -> None:
    session = sessions.create([nifti()], None)
    assert session.image.parent.stat().st_mode & 0o777 == 0o700


def test_an_image_that_is_kept_no_longer_is_forgotten(tmp_path, clock) -> None:
    volumes = VolumeCache(1 << 20)
    sessions = Sessions(tmp_path / "sessions", 100, clock, volumes.forget)
    kept, ended, expired = (sessions.create([nifti()], "ann") for _ in range(3))
    for session in (kept, ended, expired):
        volumes.get(ImageSource(session.image))
    one_bytes = volumes.kept_bytes // 3
    sessions.remove(ended.id, "ann")
    assert volumes.kept_bytes == 2 * one_bytes > 0
    clock.now += 60
    sessions.get(kept.id, "ann")
    clock.now += 60
    assert sessions.remove_expired() == 1
    assert volumes.kept_bytes == one_bytes
