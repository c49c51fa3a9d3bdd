# SPDX-License-Identifier: Apache-2.0
"""What workers fetched and were given lies in one folder; each sees at once what others write."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel")

from support.workers import SharedStudies, die_while_saving

WAIT_S = 300.0
_PROCESSES = multiprocessing.get_context("forkserver")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)), path)
    return path


@pytest.fixture
def workers(tmp_path: Path, volume: Path) -> tuple[SharedStudies, SharedStudies]:
    first, second = (SharedStudies(tmp_path / "shared") for _ in range(2))
    for image_id in ("anna", "berta"):
        first.add_image(image_id, str(volume), {"Modality": "CT"})
    return first, second


def test_images_labels_and_reviews_of_one_worker_are_the_others(workers, volume) -> None:
    first, second = workers
    assert second.get_image_info("anna")["Modality"] == "CT"
    first.save_label("anna", str(volume), "final", {})
    assert second.get_labeled_images() == ["anna"]
    assert second.label_file("anna", "final") == first.label_file("anna", "final")
    second.update_label_info("anna", "final", {"segmentationMeta": {"status": "flagged"}})
    assert first.get_label_info("anna", "final")["segmentationMeta"] == {"status": "flagged"}
    second.remove_label("anna", "final")
    assert first.label_file("anna", "final") is None
    assert first.datalist() == []


def test_a_reader_waits_for_no_change_of_its_own_worker(workers, volume) -> None:
    first, second = workers
    with first.label_kept("anna", str(volume), "final", {}):
        assert first.label_file("berta", "final") is None
        assert first.label_file("anna", "final") is not None
    assert second.label_file("anna", "final") is not None


def test_what_a_killed_worker_left_does_not_undo_what_others_did_since(
    workers, volume, tmp_path
) -> None:
    _, second = workers
    process = _PROCESSES.Process(
        target=die_while_saving, args=(tmp_path / "shared", volume, "anna")
    )
    process.start()
    process.join(WAIT_S)
    assert process.exitcode == 0
    second.save_label("berta", str(volume), "final", {"note": "kept"})
    again = SharedStudies(tmp_path / "shared")
    assert again.get_labeled_images() == ["berta"]
    assert again.get_label_info("berta", "final")["note"] == "kept"
    assert list((tmp_path / "shared").rglob(".medreasoner-part-*")) == []
