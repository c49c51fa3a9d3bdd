# SPDX-License-Identifier: Apache-2.0
"""Files and folders appear whole or not at all."""

from __future__ import annotations

import pytest

from medreasoner_infer.atomic import replacing, replacing_folder, write_durably


class Crash(Exception):
    pass


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_once_its_block_has_ended(tmp_path):
    target = tmp_path / "mask.nii.gz"
    target.write_text("old")
    with replacing(target, ".nii.gz") as unfinished:
        unfinished.write_text("new")
        assert target.read_text() == "old"
        assert unfinished.name.endswith(".nii.gz")
    assert (target.read_text(), names(tmp_path)) == ("new", ["mask.nii.gz"])


def test_the_temporary_name_keeps_the_suffix_by_default(tmp_path):
    with replacing(tmp_path / "curves.png") as unfinished:
        assert unfinished.suffix == ".png"
        unfinished.touch()


def test_a_fault_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "scores.npz"
    target.write_text("old")

    def write() -> None:
        with replacing(target) as unfinished:
            unfinished.write_text("half")
            raise Crash

    with pytest.raises(Crash):
        write()
    assert (target.read_text(), names(tmp_path)) == ("old", ["scores.npz"])


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    target = tmp_path / "answer.json"
    with replacing(target) as first, replacing(target) as second:
        first.write_text("first")
        second.write_text("second")
    assert (target.read_text(), names(tmp_path)) == ("first", ["answer.json"])


def test_a_folder_appears_once_its_block_has_ended(tmp_path):
    target = tmp_path / "model"
    with replacing_folder(target) as unfinished:
        unfinished.mkdir()
        (unfinished / "weights").write_text("w")
        assert not target.exists()
    assert (names(tmp_path), names(target)) == (["model"], ["weights"])


def test_a_fault_leaves_no_folder(tmp_path):
    def write() -> None:
        with replacing_folder(tmp_path / "model") as unfinished:
            unfinished.mkdir()
            (unfinished / "weights").touch()
            raise Crash

    with pytest.raises(Crash):
        write()
    assert names(tmp_path) == []


def test_what_a_crash_left_of_a_folder_does_not_get_into_the_next_one(tmp_path):
    target = tmp_path / "model"
    with replacing_folder(target) as unfinished:
        path = unfinished
        path.mkdir()
    path.mkdir()
    (path / "torn").touch()
    target.rmdir()
    with replacing_folder(target) as unfinished:
        assert not unfinished.exists()
        unfinished.mkdir()
    assert (names(tmp_path), names(target)) == (["model"], [])


def test_a_folder_that_holds_something_is_not_replaced(tmp_path):
    target = tmp_path / "set"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(OSError, match="set"), replacing_folder(target) as unfinished:
        unfinished.mkdir()
    assert (names(tmp_path), names(target)) == (["set"], ["old"])


def test_a_text_is_replaced(tmp_path):
    for text in ("old", "new \u2713"):
        write_durably(tmp_path / "card.md", text)
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == "new \u2713"
    assert names(tmp_path) == ["card.md"]
