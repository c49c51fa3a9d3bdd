# SPDX-License-Identifier: Apache-2.0
"""The data set folder: the columns of U-MRG-14K, whole or not at all, refused once changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("datasets")

from medreasoner_infer.imaging import Plane
from medreasoner_training.rewards.ground_truth import read_ground_truth
from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    DatasetChangedError,
    DatasetFolderError,
    LeftOut,
    NoSamplesError,
    QuerySource,
    Question,
    Sample,
    TooFewPatientsError,
    open_dataset,
    writing_dataset,
)

SIZE = 56
TRACE = "Bright, on the left."


def make_sample(number: int = 0, present: bool = True, patient: str = "a" * 16) -> Sample:
    rng = np.random.default_rng(number)
    mask = np.zeros((SIZE, SIZE), bool)
    if present:
        mask[20:40, 10:30] = True
    return Sample(
        image=rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
        mask=mask,
        question=Question("Where is bile made?", QuerySource.READER, TRACE, f"inference-{number}"),
        label_name="liver",
        bbox_xyxy_px=(10, 20, 30, 40) if present else None,
        points_xy_px=((20, 30), (12, 22)) if present else None,
        plane=Plane.AXIAL,
        slice_index=number,
        modality="CT",
        window="soft tissue (C 40 / W 400)",
        case_key="c" * 16,
        patient_key=patient,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    left_out = LeftOut()
    with writing_dataset(
        tmp_path / "set", (TRAIN, VALIDATION), {"val_share": 0.5}, left_out
    ) as writer:
        for number in range(70):
            writer.add(make_sample(number, present=number % 7 > 0), TRAIN)
        writer.add(make_sample(3, patient="b" * 16), VALIDATION)
        left_out.add("tumour", "no question")
    return tmp_path / "set"


def test_rows_have_the_columns_of_u_mrg(folder) -> None:
    rows = open_dataset(folder).load(TRAIN)
    assert rows.num_rows == 70
    row = rows[8]
    sample = make_sample(8)
    assert {"images", "masks", "prompt", "reward_model", "extra_info", "data_source"} == set(row)
    np.testing.assert_array_equal(np.asarray(row["images"][0]), sample.image)
    np.testing.assert_array_equal(np.asarray(row["masks"][0]), np.uint8(255) * sample.mask)
    assert row["prompt"] == [{"role": "user", "content": "Where is bile made?"}]
    truth = json.loads(row["reward_model"]["ground_truth"])
    assert truth == {"bbox_2d": [10, 20, 30, 40], "point_2d": [[20, 30], [12, 22]]}
    extra = row["extra_info"]
    assert (extra["category"], extra["slice_index"], extra["plane"]) == ("liver", 8, "axial")
    assert (extra["query_source"], extra["inference_id"]) == ("reader", "inference-8")
    assert extra["reasoning"] == TRACE
    assert len({info["id"] for info in rows["extra_info"]}) == 70


def test_an_absent_target_is_null_and_the_rewards_read_both(folder) -> None:
    rows = open_dataset(folder).load(TRAIN)
    assert rows[7]["reward_model"]["ground_truth"] == "null"
    assert read_ground_truth(rows[7]["reward_model"]["ground_truth"]) is None
    truth = read_ground_truth(rows[8]["reward_model"]["ground_truth"])
    assert truth.bbox_xyxy_px == (10, 20, 30, 40)


def test_hugging_face_reads_the_folder_on_its_own(folder, tmp_path) -> None:
    from datasets import load_dataset

    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: split.num_rows for name, split in loaded.items()} == {TRAIN: 70, VALIDATION: 1}
    assert loaded[TRAIN][8]["images"][0].size == (SIZE, SIZE)


def test_the_manifest_counts_rows_patients_and_what_was_left_out(folder) -> None:
    manifest = open_dataset(folder).manifest
    train = manifest.splits[TRAIN]
    assert (train.rows, train.patients) == (70, 1)
    assert (train.present, train.absent) == ({"liver": 60}, {"liver": 10})
    (entry,) = manifest.left_out
    assert (entry.label_name, entry.reason, entry.count) == ("tumour", "no question", 1)
    assert set(manifest.files) == {
        "data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet",
    }  # fmt: skip
    assert manifest.settings == {"val_share": 0.5}


def flip_last_byte(folder: Path) -> None:
    path = folder / "data" / "train-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def remove(folder: Path) -> None:
    (folder / "data" / "validation-00000-of-00001.parquet").unlink()


def add(folder: Path) -> None:
    (folder / "data" / "train-extra.parquet").write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "said"), [(flip_last_byte, "SHA-256"), (remove, "missing"), (add, "added later")]
)
def test_a_changed_data_set_is_refused(folder, change, said) -> None:
    change(folder)
    with pytest.raises(DatasetChangedError, match=said):
        open_dataset(folder)


def test_a_file_that_changes_after_opening_is_refused(folder) -> None:
    dataset = open_dataset(folder)
    flip_last_byte(folder)
    with pytest.raises(DatasetChangedError):
        dataset.load(TRAIN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"format": "medreasoner samples", "schema_version": 9}',
        '{"format": "medreasoner samples", "schema_version": 2, "files": {}}',
    ],
)
def test_a_manifest_of_another_kind_is_refused(folder, text) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DatasetFolderError, match="Export the data set again"):
        open_dataset(folder)


def test_a_folder_without_manifest_is_no_data_set(tmp_path) -> None:
    with pytest.raises(DatasetFolderError, match=r"no manifest\.json"):
        open_dataset(tmp_path)


def test_an_unknown_split_is_named(folder) -> None:
    with pytest.raises(DatasetFolderError, match="train, validation"):
        open_dataset(folder).load("test")


def test_a_folder_in_use_is_not_written_to(folder) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with (
        pytest.raises(DatasetFolderError, match="not empty"),
        writing_dataset(folder, (TRAIN,), {}, LeftOut()),
    ):
        pass
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def write(folder: Path, samples: list[tuple[Sample, str]], splits=(TRAIN, VALIDATION)) -> None:
    with writing_dataset(folder, splits, {}, LeftOut()) as writer:
        for sample, split in samples:
            writer.add(sample, split)


def test_a_patient_in_two_splits_is_refused_and_nothing_is_left_behind(tmp_path) -> None:
    with pytest.raises(TooFewPatientsError, match="one split"):
        write(tmp_path / "set", [(make_sample(1), TRAIN), (make_sample(2), VALIDATION)])
    assert list(tmp_path.iterdir()) == []


def test_no_sample_and_an_empty_split_are_errors(tmp_path) -> None:
    with pytest.raises(NoSamplesError, match="final"):
        write(tmp_path / "set", [])
    with pytest.raises(TooFewPatientsError, match="validation split has no sample"):
        write(tmp_path / "set", [(make_sample(1), TRAIN)])
    assert list(tmp_path.iterdir()) == []
