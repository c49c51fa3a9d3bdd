# SPDX-License-Identifier: Apache-2.0
"""Data sets of every format become the same rows, and what is none is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pyarrow")
pytest.importorskip("datasets")

from support import umrg

from medreasoner_infer.imaging import Plane
from medreasoner_training.evaluation import (
    DataUnavailableError,
    EvaluationDataError,
    open_rows,
)
from medreasoner_training.evaluation.pictures import load_case
from medreasoner_training.finetune.raw_samples import read_sample
from medreasoner_training.finetune.scoring import held_out_of
from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    DatasetChangedError,
    DatasetFolderError,
    LeftOut,
    QuerySource,
    Question,
    RowSchemaError,
    Sample,
    open_dataset,
    writing_dataset,
)
from medreasoner_training.samples.schema import features

BOXES = [(10, 20, 50, 40), (4, 4, 24, 64), (30, 30, 70, 50), (12, 40, 36, 52), (40, 8, 80, 28)]


def umrg_rows() -> list[dict]:
    return [
        umrg.row(number, box, f"Which part {number} is bright?", "liver" if number else "airway")
        for number, box in enumerate(BOXES)
    ]


def all_of(source):
    return list(source.read(range(source.count)))


def test_a_parquet_file_of_u_mrg_is_read_row_by_row(tmp_path: Path) -> None:
    source = open_rows(str(umrg.write(tmp_path / "test.parquet", umrg_rows(), 2)))
    assert (source.name, source.split, source.count) == ("test", "test", 5)
    rows = all_of(source)
    assert [row.id for row in rows] == [f"umrg_{number:05d}" for number in range(5)]
    assert rows[1].question == "Which part 1 is bright?"
    assert (rows[0].category, rows[0].super_category, rows[0].patient) == ("airway", "abdomen", "")
    case = load_case(rows[2], model_size=84)
    assert case.truth.bbox_xyxy_px == (30, 30, 70, 50)
    assert case.truth.points_xy_px == ((40, 40), (60, 40))
    assert (case.mask.sum(), case.mask[30:50, 30:70].all()) == (800, True)
    assert case.shown.image.pixels[30, 30].tolist() == [200, 180, 160]


def test_rows_at_some_places_are_those_of_the_whole(tmp_path: Path) -> None:
    source = open_rows(str(umrg.write(tmp_path / "test.parquet", umrg_rows(), 2)))
    assert [row.id for row in source.read([0, 3, 4])] == [
        "umrg_00000", "umrg_00003", "umrg_00004",
    ]  # fmt: skip


def test_of_a_folder_the_test_split_is_taken_unless_another_is_wanted(tmp_path: Path) -> None:
    rows = umrg_rows()
    umrg.write(tmp_path / "data" / "train-00000-of-00001.parquet", rows[:3])
    umrg.write(tmp_path / "data" / "test-00000-of-00001.parquet", rows[3:])
    assert open_rows(str(tmp_path)).count == 2
    assert open_rows(str(tmp_path), split="train").count == 3
    assert open_rows(str(tmp_path), split="all").count == 5
    with pytest.raises(EvaluationDataError, match="no split 'validation'; it has: test, train"):
        open_rows(str(tmp_path), split="validation")


def test_fine_tuning_reads_the_same_files(tmp_path: Path) -> None:
    rows = umrg_rows()
    rows[4]["reward_model"]["ground_truth"] = "null"
    umrg.write(tmp_path / "train-00000-of-00001.parquet", rows[:3])
    umrg.write(tmp_path / "test-00000-of-00001.parquet", rows[3:])
    data = open_dataset(tmp_path)
    counts = data.manifest.splits
    assert (counts[TRAIN].rows, counts[VALIDATION].rows) == (3, 2)
    assert (counts[VALIDATION].present, counts[VALIDATION].absent) == ({"liver": 1}, {"liver": 1})
    trained = data.load(TRAIN)
    assert trained.features == features()
    sample = read_sample(trained[2])
    assert (sample.query, sample.label, sample.patient) == (
        "Which part 2 is bright?", "liver", "umrg_00002",
    )  # fmt: skip
    assert sample.truth.bbox_xyxy_px == (30, 30, 70, 50)
    assert sample.mask.sum() == 800
    held_out = held_out_of(data.load(VALIDATION))
    assert held_out.present.tolist() == [True, False]
    assert held_out.patients.tolist() == ["umrg_00003", "umrg_00004"]


def test_files_of_u_mrg_that_changed_are_another_data_set_and_refused_while_open(tmp_path) -> None:
    rows = umrg_rows()
    path = umrg.write(tmp_path / "train.parquet", rows[:3])
    umrg.write(tmp_path / "test.parquet", rows[3:])
    data = open_dataset(tmp_path)
    umrg.write(path, rows[:2])
    with pytest.raises(DatasetChangedError):
        data.load(TRAIN)
    assert open_dataset(tmp_path).manifest_sha256 != data.manifest_sha256
    path.unlink()
    with pytest.raises(DatasetFolderError, match="to train on and to validate on"):
        open_dataset(tmp_path)


def test_a_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    write_table(pa.table({"images": [1], "prompt": [2]}), tmp_path / "other.parquet")
    with pytest.raises(RowSchemaError, match=r"lacks the column\(s\) masks, reward_model, extra_"):
        open_rows(str(tmp_path / "other.parquet"))
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(EvaluationDataError, match=r"torn\.parquet is no parquet file"):
        open_rows(str(tmp_path / "torn.parquet"))


def exported(folder: Path) -> Path:
    def sample(number: int, present: bool, patient: str) -> Sample:
        mask = np.zeros((56, 56), bool)
        mask[20:40, 10:30] = present
        return Sample(
            image=np.full((56, 56, 3), number, np.uint8),
            mask=mask,
            question=Question("Where is bile made?", QuerySource.READER),
            label_name="liver",
            bbox_xyxy_px=(10, 20, 30, 40) if present else None,
            points_xy_px=((20, 30), (12, 22)) if present else None,
            plane=Plane.AXIAL,
            slice_index=number,
            modality="CT",
            window="soft tissue",
            case_key="c" * 16,
            patient_key=patient,
        )

    with writing_dataset(folder, (TRAIN, VALIDATION), {}, LeftOut()) as writer:
        writer.add(sample(1, True, "a" * 16), TRAIN)
        writer.add(sample(2, True, "b" * 16), VALIDATION)
        writer.add(sample(3, False, "b" * 16), VALIDATION)
    return folder


def test_an_exported_data_set_is_read_and_its_patients_are_known(tmp_path: Path) -> None:
    folder = exported(tmp_path / "set")
    source = open_rows(str(folder))
    assert (source.split, source.count) == ("validation", 2)
    present, absent = all_of(source)
    assert (present.modality, present.patient) == ("CT", "b" * 16)
    assert load_case(present, 56).truth.bbox_xyxy_px == (10, 20, 30, 40)
    case = load_case(absent, 56)
    assert (case.truth, case.mask) == (None, None)


def test_an_exported_data_set_that_was_changed_is_refused(tmp_path: Path) -> None:
    folder = exported(tmp_path / "set")
    path = next(folder.glob("data/train*"))
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DatasetChangedError):
        open_rows(str(folder))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two images of 40 x 30; the first has a target of 10 x 5 with its mask."""
    folder = tmp_path / "pictures"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    mask = np.zeros((30, 40), np.uint8)
    mask[8:13, 6:16] = 255
    for name in ("a", "b"):
        Image.fromarray(np.full((30, 40), 90, np.uint8)).save(folder / "images" / f"{name}.png")
    Image.fromarray(mask).save(folder / "masks" / "a__kidney_2.png")
    return folder


def manifest_of(folder: Path, **told: str) -> None:
    entry = {
        "image": "images/a.png", "mask": "masks/a__kidney_2.png", "label": "kidney 2",
        "modality": "CT", "super_category": "abdomen", "patient": "p1", "licence": "CC0-1.0",
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps([entry | told]))


def test_a_manifest_without_questions_asks_for_the_plain_name_of_each_label(pictures) -> None:
    manifest_of(pictures)
    (row,) = all_of(open_rows(str(pictures)))
    assert (row.question, row.category, row.id) == ("kidney", "kidney", "masks/a__kidney_2")
    assert (row.modality, row.super_category, row.patient) == ("CT", "abdomen", "p1")
    case = load_case(row, 84)
    assert case.truth.bbox_xyxy_px == (6, 8, 16, 13)
    assert all(case.mask[int(y), int(x)] for x, y in case.truth.points_xy_px)


def test_questions_join_their_pair_and_those_without_a_mask_ask_for_what_is_absent(pictures):
    manifest_of(pictures)
    table = pictures / "questions.csv"
    table.write_text(
        "\ufeffid,image,mask,question,label\n"
        'q1,images/a.png,masks/a__kidney_2.png,"Which organ, bean-shaped, makes urine?",\n'
        "q2,images/a.png,,Where is bile stored?,gallbladder\n",
        encoding="utf-8",
    )
    asked, absent = all_of(open_rows(str(pictures)))
    assert asked.question == "Which organ, bean-shaped, makes urine?"
    assert (asked.id, asked.category, asked.patient) == ("q1", "kidney", "p1")
    assert (absent.category, absent.patient, absent.super_category) == ("gallbladder", "p1", "")
    assert load_case(absent, 84).truth is None
    table.write_text("image,mask,question\nimages/b.png,,What is bright?\n")
    with pytest.raises(EvaluationDataError, match=r"Question 1 is about an image, mask or label"):
        open_rows(str(pictures))


def test_a_folder_of_pictures_with_a_table_needs_no_manifest(pictures, tmp_path) -> None:
    table = tmp_path / "asked.csv"
    table.write_text(
        "image,mask,question,category,patient\n"
        "images/a.png,masks/a__kidney_2.png,What makes urine?,kidney,p1\n"
        "images/b.png,,What makes urine?,kidney,p2\n"
    )
    rows = all_of(open_rows(str(pictures), questions=table))
    assert [row.id for row in rows] == ["00001", "00002"]
    assert [load_case(row, 84).truth is None for row in rows] == [False, True]


@pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname", "images/none.png", ""])
def test_a_table_names_no_file_outside_its_folder(pictures, tmp_path, name) -> None:
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(tmp_path / "outside.png")
    (pictures / "questions.csv").write_text(f"image,question\n{name},What is bright?\n")
    with pytest.raises(EvaluationDataError, match="not in the data set's folder"):
        open_rows(str(pictures))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("picture,question\nimages/a.png,Where?\n", "has no image"),
        ("", "has no image and no question"),
        ("image,question\nimages/a.png,\n", "Row 1 of the table holds no question"),
    ],
)
def test_a_table_that_asks_nothing_is_refused(pictures, text, said) -> None:
    (pictures / "questions.csv").write_text(text)
    with pytest.raises(EvaluationDataError, match=said):
        open_rows(str(pictures))


def test_masks_of_another_size_or_with_many_labels_are_refused_and_grey_edges_cut(pictures):
    manifest_of(pictures)
    path = pictures / "masks" / "a__kidney_2.png"

    def case_with(mask: np.ndarray):
        Image.fromarray(mask.astype(np.uint8)).save(path)
        return load_case(all_of(open_rows(str(pictures)))[0], 84)

    with pytest.raises(EvaluationDataError, match="has 20 x 30 pixels, its image 40 x 30"):
        case_with(np.zeros((30, 20)))
    labels = np.zeros((30, 40))
    labels[5], labels[6] = 1, 2
    with pytest.raises(EvaluationDataError, match="holds 3 values like a label map"):
        case_with(labels)
    soft = np.zeros((30, 40))
    soft[10:20, 10:20], soft[9, 10:20], soft[20, 10:20] = 255, 100, 150
    assert case_with(soft).truth.bbox_xyxy_px == (10, 10, 20, 21)
    assert case_with(np.zeros((30, 40))).truth is None


def test_what_is_no_data_set_is_refused_with_what_is_expected(tmp_path) -> None:
    for data in (str(tmp_path), str(tmp_path / "none"), "liver"):
        with pytest.raises(EvaluationDataError, match=r"Expected a parquet file .* Hugging Face"):
            open_rows(data)


def test_a_data_set_of_the_hub_is_refused_offline_with_what_to_do(monkeypatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataUnavailableError, match=r"this machine is offline.*hf download"):
        open_rows("zzzyzh/U-MRG-14K")


def test_a_data_set_of_the_hub_is_read_like_its_files(tmp_path, monkeypatch) -> None:
    import datasets

    path = umrg.write(tmp_path / "rows.parquet", umrg_rows())
    loaded = datasets.load_dataset(
        "parquet", data_files={"test": str(path)}, cache_dir=str(tmp_path / "cache")
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda name, revision: loaded)
    source = open_rows("someone/u-mrg@v1")
    assert (source.name, source.split, source.count) == ("someone/u-mrg@v1", "test", 5)
    (row,) = source.read([3])
    assert (row.id, load_case(row, 84).truth.bbox_xyxy_px) == ("umrg_00003", (12, 40, 36, 52))


def test_the_real_benchmark_has_its_690_pairs(shared_data: Path) -> None:
    source = open_rows(str(shared_data / "real"), split="all")
    assert source.count == 690
    assert len({row.id for row in all_of(source)}) == 690
