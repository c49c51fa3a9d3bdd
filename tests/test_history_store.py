# SPDX-License-Identifier: Apache-2.0
"""Decisions, the history of a study, its export and its deletion, on real databases."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sqlalchemy")

from medreasoner_infer.imaging import Plane, Volume
from monailabel_app.errors import UnknownRecordError
from monailabel_app.store import Decision, LabelSubmission, Outcome, PacsState, RecordStore

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.fixture
def store(tmp_path: Path, answered, records_address):
    """Two answers on two series of study 1.2, one on another study, one on an image of its own."""
    store = RecordStore(tmp_path / "records", address=records_address)
    volume = Volume(np.zeros((6, 5, 4), np.int16), np.eye(4), "CT", "key", tmp_path)
    mask = np.ones((6, 5, 4), np.uint8)
    images = {"a": ("1.2.1", "1.2"), "b": ("1.2.2", "1.2"), "c": ("3.4.1", "3.4"), "d": ("d", None)}
    for name, (image, study) in images.items():
        store.add_inference(
            answered(volume, Plane.AXIAL, 1, mask, name=name), task="medreasoner", image_id=image,
            study_uid=study, write_mask=lambda path: path.write_bytes(b"mask"),
        )  # fmt: skip
    yield store
    store.close()


def submit(store: RecordStore, tmp_path: Path, image: str, inference: str, **options: bool):
    file = tmp_path / "label.nii.gz"
    file.write_bytes(b"label")
    submission = LabelSubmission(image, "final", file, {"inference_id": inference})
    return store.join_label(submission, **options)


def test_a_study_holds_the_answers_on_all_its_series(store) -> None:
    assert {record.id for record in store.list_for_study("1.2")} == {"a", "b"}
    assert [record.id for record in store.list_for_study("d")] == ["d"]
    assert store.list_for_study("9.9") == []


def test_a_decision_is_kept_and_a_later_one_replaces_it(store, tmp_path, records_address) -> None:
    store.decide("a", Decision(Outcome.ACCEPTED, None, NOW))
    store.decide("a", Decision(Outcome.REJECTED, "It is the spleen.", NOW, "reader"))
    store.close()
    again = RecordStore(tmp_path / "records", address=records_address)
    assert again.get("a").decision == Decision(Outcome.REJECTED, "It is the spleen.", NOW, "reader")
    assert again.get("b").decision is None
    with pytest.raises(UnknownRecordError):
        again.decide("nobody", Decision(Outcome.ACCEPTED, None, NOW))
    again.close()


def test_a_label_for_the_archive_is_queued_with_its_record(store, tmp_path) -> None:
    label = submit(store, tmp_path, "1.2.1", "a", to_archive=True)
    queued = store.pacs.of_label(label.id)
    assert (queued.state, queued.inference_id, queued.study_uid) == (PacsState.PENDING, "a", "1.2")
    assert store.pacs.of_label(submit(store, tmp_path, "3.4.1", "c").id) is None
    exported = json.loads(json.dumps([record.to_dict() for record in store.list_for_study("1.2")]))
    by_id = {entry["inference_id"]: entry for entry in exported}
    assert by_id["a"]["pacs"][0]["state"] == "pending"
    assert by_id["a"]["result"]["reasoning"].startswith("The liver")


def test_deleting_a_study_leaves_no_file_of_it_and_all_of_the_others(store, tmp_path) -> None:
    label = submit(store, tmp_path, "1.2.1", "a", to_archive=True)
    kept = submit(store, tmp_path, "3.4.1", "c", to_archive=True)
    masks = [store.get(name).mask_file for name in "ab"]
    deleted = store.delete_study("1.2")
    assert (deleted.inferences, deleted.labels) == (2, 1)
    assert store.list_for_study("1.2") == []
    assert not any(path.exists() for path in (*masks, label.file))
    assert store.pacs.of_label(label.id) is None
    assert store.get("c").labels[0].file == kept.file
    assert kept.file.exists()
    assert store.get("c").mask_file.exists()
    assert store.pacs.of_label(kept.id) is not None
