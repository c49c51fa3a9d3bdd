# SPDX-License-Identifier: Apache-2.0
"""What a build writes: the schema, tight boxes, nothing named, the same bytes however it ended."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pyarrow")
pytest.importorskip("datasets")

import pyarrow as pa
import pyarrow.parquet as pq
from support import umrg
from support.labelled_images import SIZE_HW, labelled_folder

from medreasoner_infer.errors import InputError
from medreasoner_training.dataset import (
    Build,
    BuildError,
    PairsError,
    Templates,
    Wanted,
    WrittenByModel,
    build_dataset,
    read_pairs,
    working_folder,
)
from medreasoner_training.evaluation import open_rows
from medreasoner_training.samples import DatasetFolderError, LicenceRefusedError, open_dataset

TEST_FILE = "data/test-00000-of-00001.parquet"
NAMES = {
    "liver": ("liver", "hepat", "leber", "foie"),
    "kidney": ("kidney", "renal", "niere", "rein"),
    "left lung": ("lung", "pulmon", "lunge"),
    "right lung": ("lung", "pulmon", "lunge"),
}


def made(folder: Path, out: Path, seed: int = 0, **changes) -> Build:
    settings = {"source": Templates(("en", "de")), "wanted": Wanted(2, 1, 1), **changes}
    return Build(read_pairs(folder), out=out, seed=seed, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return labelled_folder(tmp_path_factory.mktemp("images") / "site")


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built") / "set"
    build_dataset(made(folder, out))
    return out


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*") if p.is_file()
    }


def rows_of(folder: Path) -> list[dict]:
    return [
        row
        for path in sorted(folder.glob("data/*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


def decoded(picture: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture["bytes"])))


def holds(wanted: pa.DataType, found: pa.DataType) -> bool:
    """Whether a reader of the wanted type finds all of its fields."""
    if pa.types.is_struct(wanted):
        names = {field.name: field.type for field in found}
        return all(field.name in names and holds(field.type, names[field.name]) for field in wanted)
    if pa.types.is_list(wanted):
        return holds(wanted.value_type, found.value_type)
    return wanted == found


def test_the_files_have_every_column_of_u_mrg_14k_in_its_type(built) -> None:
    schema = pq.read_schema(built / TEST_FILE)
    for field in umrg.SCHEMA:
        assert holds(field.type, schema.field(field.name).type), field.name


def test_boxes_are_tight_and_points_inside_by_a_count_of_pixels(built) -> None:
    rows = rows_of(built)
    assert {row["data_source"] for row in rows} == {"umrg"}
    for row in rows:
        image, mask = decoded(row["images"][0]), decoded(row["masks"][0])
        assert image.shape == (*SIZE_HW, 3)
        assert set(np.unique(mask)) <= {0, 255}
        truth = json.loads(row["reward_model"]["ground_truth"])
        if truth is None:
            assert not mask.any()
            continue
        ys, xs = np.nonzero(mask)
        assert truth["bbox_2d"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert all(mask[y, x] == 255 for x, y in truth["point_2d"])
        assert len(truth["point_2d"]) == 2


def test_implicit_questions_hold_no_name_and_explicit_ones_do(built) -> None:
    kinds = set()
    for row in rows_of(built):
        info, text = row["extra_info"], row["prompt"][0]["content"].lower()
        kinds.add((info["query_kind"], info["present"]))
        if info["category"] in NAMES:
            named = any(name in text for name in NAMES[info["category"]])
            assert named == (info["query_kind"] == "explicit"), text
    assert {("implicit", True), ("explicit", True)} <= kinds
    assert any(not present for _, present in kinds)


def test_the_side_of_the_patient_is_told_of_one_lung_of_two(built) -> None:
    words = {"left": ("left", "link"), "right": ("right", "recht")}
    true_of_one = {
        "left": ("two lobes", "zwei lappen", "lingula", "cardiac notch"),
        "right": ("three lobes", "drei lappen", "over the liver"),
    }
    for row in rows_of(built):
        side, _, what = row["extra_info"]["category"].partition(" ")
        if what == "lung":
            text = row["prompt"][0]["content"].lower()
            other = "right" if side == "left" else "left"
            assert any(word in text for word in words[side] + true_of_one[side]), text
            assert not any(word in text.replace("bright", "") for word in words[other]), text


def test_what_the_folder_tells_is_carried_and_a_trace_tells_place_and_name(built) -> None:
    for row in rows_of(built):
        info = row["extra_info"]
        train = info["licence"] == "CC0-1.0"
        assert (info["may_train"], int(info["patient_key"][1:]) < 3) == (train, train)
        assert info["reasoning"]
        if info["present"]:
            box = json.loads(row["reward_model"]["ground_truth"])["bbox_2d"]
            assert info["category"] in info["reasoning"]
            assert f"x {box[0]} and {box[2]}" in info["reasoning"]
    by_file = {
        path.name.partition("-")[0]: pq.read_table(path).num_rows for path in built.glob("data/*")
    }
    record = json.loads((built / "dataset.json").read_text())
    assert record["rows"] == by_file


def test_an_evaluation_reads_it_and_a_training_too(built) -> None:
    source = open_rows(str(built), split="all")
    rows = list(source.read(range(source.count)))
    assert {row.split for row in rows} == {"train", "test"}
    assert {row.may_train for row in rows} == {True, False}
    assert {row.licence for row in rows} == {"CC0-1.0", "CC-BY-NC-4.0"}
    assert open_dataset(built).load("train").num_rows == sum(row.split == "train" for row in rows)


def test_a_training_refuses_rows_that_may_not_be_trained_on(built, tmp_path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.parquet").write_bytes((built / TEST_FILE).read_bytes())
    with pytest.raises(LicenceRefusedError, match="does not let them be trained on"):
        open_dataset(tmp_path)


def test_equal_seeds_make_equal_files_and_others_do_not(folder, built, tmp_path) -> None:
    build_dataset(made(folder, tmp_path / "again"))
    assert files_of(tmp_path / "again") == files_of(built)
    build_dataset(made(folder, tmp_path / "other", seed=1))
    assert files_of(tmp_path / "other")[TEST_FILE] != files_of(built)[TEST_FILE]


class Ended(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_build_that_was_ended_goes_on_to_the_same_files(folder, built, tmp_path, after) -> None:
    def end(done: int, _: int) -> None:
        if done == after:
            raise Ended

    with pytest.raises(Ended):
        build_dataset(made(folder, tmp_path / "set"), end)
    journal = working_folder(tmp_path / "set") / "questions.jsonl"
    assert len(journal.read_bytes().splitlines()) == after
    with journal.open("ab") as file:
        file.write(b'{"written": [{"label": "liv')
    asked = []
    build_dataset(made(folder, tmp_path / "set"), lambda done, _: asked.append(done))
    assert asked == list(range(after + 1, 7))
    assert files_of(tmp_path / "set") == files_of(built)
    assert not working_folder(tmp_path / "set").exists()


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from test_dataset_building import build_dataset, made
after = int(sys.argv[3])
build_dataset(made(Path(sys.argv[1]), Path(sys.argv[2])),
              lambda done, _: done == after and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.slow
def test_a_killed_process_leaves_what_the_next_one_goes_on_with(folder, built, tmp_path) -> None:
    program = KILLED.format(tests=str(Path(__file__).parent))
    for after in (2, 4):
        arguments = [sys.executable, "-c", program, str(folder), str(tmp_path / "set"), str(after)]
        assert subprocess.run(arguments, check=False).returncode == -9
        assert not (tmp_path / "set").exists()
    build_dataset(made(folder, tmp_path / "set"))
    assert files_of(tmp_path / "set") == files_of(built)


def test_an_unfinished_build_of_other_settings_and_a_full_folder_are_refused(
    folder, tmp_path
) -> None:
    def end(done: int, _: int) -> None:
        raise Ended

    with pytest.raises(Ended):
        build_dataset(made(folder, tmp_path / "set"), end)
    with pytest.raises(BuildError, match="unfinished build with other seed"):
        build_dataset(made(folder, tmp_path / "set", seed=2))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    with pytest.raises(DatasetFolderError):
        build_dataset(made(folder, tmp_path / "full"))
    assert (tmp_path / "full" / "note.txt").read_text() == "mine"


def test_an_empty_mask_and_a_label_that_nobody_knows_are_counted(tmp_path) -> None:
    folder = labelled_folder(tmp_path / "site", 2)
    Image.fromarray(np.zeros(SIZE_HW, np.uint8)).save(folder / "masks" / "0__liver.png")
    listed = json.loads((folder / "manifest.json").read_text())
    listed[1]["label"] = "gizmo"
    (folder / "manifest.json").write_text(json.dumps(listed))
    built = build_dataset(made(folder, tmp_path / "set"))
    reasons = {(label, reason) for label, reason, _ in built.rejected}
    assert ("liver", "the mask is empty") in reasons
    assert ("gizmo", "fewer questions than were wanted passed the checks") in reasons
    found = {
        row["extra_info"]["category"]: row["extra_info"]["query_kind"]
        for row in rows_of(tmp_path / "set")
    }
    assert "liver" not in found
    assert found["gizmo"] == "explicit"


def test_one_of_several_of_a_name_is_not_asked_for_by_it(tmp_path) -> None:
    folder = labelled_folder(tmp_path / "site", 2)
    listed = json.loads((folder / "manifest.json").read_text())
    listed[0]["label"], listed[1]["label"] = "kidney", "kidney 2"
    (folder / "manifest.json").write_text(json.dumps(listed))
    built = build_dataset(made(folder, tmp_path / "set"))
    why = "other labels of the image have the same name, so that no question tells it apart"
    assert {("kidney", why), ("kidney 2", why)} <= {each[:2] for each in built.rejected}
    assert "kidney" not in {row["extra_info"]["category"] for row in rows_of(tmp_path / "set")}


def test_a_table_of_labels_is_as_good_as_a_manifest(folder, built, tmp_path) -> None:
    listed = json.loads((folder / "manifest.json").read_text())
    table = tmp_path / "labels.csv"
    lines = [",".join(listed[0]), *(",".join(map(str, entry.values())) for entry in listed)]
    table.write_text("\n".join(lines) + "\n")
    images = read_pairs(folder, table)
    build_dataset(Build(images, Templates(("en", "de")), tmp_path / "set", Wanted(2, 1, 1)))
    assert files_of(tmp_path / "set")[TEST_FILE] == files_of(built)[TEST_FILE]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask": ""}, "Entry 1 of the labels has no mask"),
        ({"split": "../x"}, "expected train, validation, test or nothing"),
        ({"image": "../../etc/hostname"}, "not in the data set's folder"),
        ({"may_train": "maybe"}, "expected true, false or nothing"),
    ],
)
def test_a_manifest_that_means_nothing_is_refused(tmp_path, change, said) -> None:
    folder = labelled_folder(tmp_path / "site", 1)
    listed = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps([listed[0] | change]))
    with pytest.raises(InputError, match=said):
        read_pairs(folder)


def test_a_folder_without_a_list_of_labels_is_refused(tmp_path) -> None:
    with pytest.raises(PairsError, match=r"holds no manifest\.json and no labels\.csv"):
        read_pairs(tmp_path)


def test_a_models_questions_are_checked_and_templates_fill_the_gap(folder, tmp_path) -> None:
    asked: list[tuple[str, dict]] = []

    def complete(messages, schema, most_tokens, seed) -> str:
        told = json.loads(messages[1]["content"])
        asked.append((messages[0]["content"], told))
        if "descriptions" not in told:
            return json.dumps({"phrases": ["what filters"], "forms": ["Where is {description}?"]})
        if told["target"] == "liver":
            good = {
                "question": "Which organ turns sugar into glycogen?",
                "reasoning": "It is the liver.",
            }
            return json.dumps({"questions": [good, {"question": "The liver?", "reasoning": "x"}]})
        return "no JSON"

    def kept() -> Path:
        return working_folder(tmp_path / "set") / "descriptions.jsonl"

    source = WrittenByModel(complete, "site-model", kept)
    built = build_dataset(made(folder, tmp_path / "set", source=source))
    rows = [
        row["extra_info"] | {"q": row["prompt"][0]["content"]} for row in rows_of(tmp_path / "set")
    ]
    written = [row for row in rows if row["query_source"] == "model"]
    assert {row["category"] for row in written} == {"liver"}
    assert {(row["reasoning"], row["query_model"]) for row in written} == {
        ("It is the liver.", "site-model")
    }
    implicit = [row for row in rows if row["query_kind"] == "implicit" and row["present"]]
    assert len(implicit) == 24  # two for each pair, by whomever
    assert ("liver", "an implicit question names its target") in {
        each[:2] for each in built.rejected
    }
    described = [told["target"] for _, told in asked if "descriptions" not in told]
    assert sorted(described) == ["kidney", "left lung", "liver", "right lung"]  # once each
    assert not any("images/" in json.dumps(told) or "p0" in json.dumps(told) for _, told in asked)
