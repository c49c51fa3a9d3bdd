# SPDX-License-Identifier: Apache-2.0
"""The site's memory of who trains and who is held out."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("monailabel")

from medreasoner_infer.errors import InputError
from medreasoner_training.samples import TRAIN, VALIDATION
from monailabel_app.export.splits import SPLITS_NAME, keep_splits


def keys(count: int) -> list[str]:
    return [hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in range(count)]


def alone(found: list[str]) -> dict[str, str]:
    """Each pseudonym in a group of its own."""
    return {key: key for key in found}


def held_out(splits: dict[str, str]) -> set[str]:
    return {key for key, split in splits.items() if split == VALIDATION}


def test_who_was_held_out_stays_so_and_who_trained_is_never_held_out(tmp_path):
    first = keep_splits(tmp_path, alone(keys(50)), 0.2)
    assert len(held_out(first)) == 10
    later = keep_splits(tmp_path, alone(keys(100)), 0.2)
    assert len(held_out(later)) == 20
    assert held_out(first) == held_out(later) & set(first)
    assert keep_splits(tmp_path, alone(keys(100)[::-1]), 0.2) == later


def test_patients_who_are_missing_for_a_while_keep_their_side(tmp_path):
    first = keep_splits(tmp_path, alone(keys(60)), 0.2)
    keep_splits(tmp_path, alone(keys(90)[60:]), 0.2)
    again = keep_splits(tmp_path, alone(keys(60)), 0.2)
    assert again == first


def test_an_export_of_everybody_assigns_nobody(tmp_path):
    assert set(keep_splits(tmp_path, alone(keys(10)), 0.0).values()) == {TRAIN}
    assert not (tmp_path / SPLITS_NAME).exists()
    assert len(held_out(keep_splits(tmp_path, alone(keys(10)), 0.2))) == 2


def test_a_group_of_which_one_was_learnt_from_is_never_held_out(tmp_path):
    first = keep_splits(tmp_path, alone(keys(50)), 0.2)
    trained, validated = (
        [key for key in keys(50) if first[key] == split] for split in (TRAIN, VALIDATION)
    )
    one_person = {trained[0]: validated[0], validated[0]: validated[0]}
    strangers = {"e" * 16: validated[1], validated[1]: validated[1], "f" * 16: trained[1]}
    later = keep_splits(tmp_path, alone(keys(50)) | one_person | strangers, 0.2)
    assert {later[key] for key in one_person} == {TRAIN}
    assert later["e" * 16] == VALIDATION
    assert later["f" * 16] == TRAIN
    again = keep_splits(tmp_path, alone([*keys(50), "e" * 16, "f" * 16]), 0.2)
    assert {key: again[key] for key in later} == later


def test_exports_at_the_same_time_agree(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: keep_splits(tmp_path, alone(keys(40 + n)), 0.2), range(8)))
    kept = json.loads((tmp_path / SPLITS_NAME).read_text())
    assert all(kept[key] == split for splits in found for key, split in splits.items())


@pytest.mark.parametrize("text", ['{"a": "test"}', '{"a"', "[]"])
def test_a_damaged_memory_is_an_error_and_not_taken_for_an_empty_one(tmp_path, text):
    (tmp_path / SPLITS_NAME).write_text(text)
    with pytest.raises(InputError, match="nobody knows who was held out"):
        keep_splits(tmp_path, alone(keys(10)), 0.2)
