# SPDX-License-Identifier: Apache-2.0
"""Learning from any data set: what stays out, who validates, and a training on U-MRG's schema."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pyarrow")
pytest.importorskip("datasets")
pytest.importorskip("monai")

from support import umrg
from support.tiny_qwen import save_tiny_qwen

from medreasoner_training.evaluation import EvaluationDataError, EvaluationRow
from medreasoner_training.finetune.raw_samples import read_sample
from medreasoner_training.learning import (
    LearningSettings,
    learning_set,
    require_same_data,
    why_not_to_train_on,
)
from medreasoner_training.learning.making import NO_MASK, TESTED, VALIDATES
from medreasoner_training.learning.permission import NON_COMMERCIAL, SAID_NOT
from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    DatasetFolderError,
    NoSamplesError,
    TooFewPatientsError,
)

BOXES = [(10, 20, 50, 40), (4, 4, 24, 64), (30, 30, 70, 50), (12, 40, 36, 52), (40, 8, 80, 28)]


def umrg_rows(count: int = 5) -> list[dict]:
    return [
        umrg.row(number, BOXES[number % 5], f"Which part {number} is bright?", "liver")
        for number in range(count)
    ]


def folder_of(folder: Path, rows: list[dict]) -> Path:
    """A folder with questions.csv; each row names its columns, its image is drawn by its number."""
    folder.mkdir()
    names = sorted({"image", "question", "mask"}.union(*rows))
    lines = [",".join(names)]
    for number, row in enumerate(rows):
        grey = np.full((60, 60), 20 + number, np.uint8)
        mask = np.zeros((60, 60), np.uint8)
        grey[20:40, 10:30] = mask[20:40, 10:30] = 255
        own = {"image": f"{number}.png", "mask": f"{number}_mask.png", "question": "What?"} | row
        for name, values in ((own["image"], grey), (own["mask"], mask)):
            if name and not (folder / name).exists():
                Image.fromarray(values).save(folder / name)
        lines.append(",".join(own.get(name, "") for name in names))
    (folder / "questions.csv").write_text("\n".join(lines) + "\n")
    return folder


def rows_of(found, split: str) -> list[dict]:
    return list(found.load(split))


def reasons(found) -> dict[str, int]:
    told: dict[str, int] = {}
    for entry in found.manifest.left_out:
        told[entry.reason] = told.get(entry.reason, 0) + entry.count
    return told


@pytest.mark.parametrize(
    ("licence", "reason"),
    [
        ("CC-BY-NC-4.0", NON_COMMERCIAL),
        ("cc by-nc-sa 4.0", NON_COMMERCIAL),
        ("Non-commercial use", NON_COMMERCIAL),
        ("noncommercial", NON_COMMERCIAL),
        ("for research use only", NON_COMMERCIAL),
        ("CC-BY-4.0", None),
        ("CC0-1.0", None),
        ("MIT (see the lab's announcement)", None),
        ("", None),
    ],
)
def test_a_licence_that_forbids_commerce_keeps_a_row_out(licence, reason) -> None:
    assert why_not_to_train_on(EvaluationRow("1", "?", b"", None, licence=licence)) == reason


def test_what_the_data_set_forbids_stays_out_whatever_its_licence() -> None:
    row = EvaluationRow("1", "?", b"", None, licence="CC0-1.0", may_train=False)
    assert why_not_to_train_on(row) == SAID_NOT


def test_what_may_not_be_trained_on_is_left_out_and_counted(tmp_path) -> None:
    rows = [{"licence": "MIT"} for _ in range(6)]
    rows += [{"licence": "CC-BY-NC-4.0"}, {"may_train": "false"}, {"may_train": "False"}]
    data = folder_of(tmp_path / "data", rows)
    found = learning_set(str(data), tmp_path / "out", LearningSettings(56))
    assert found.manifest.rows == 6
    assert reasons(found) == {NON_COMMERCIAL: 1, SAID_NOT: 2}


def test_of_nothing_that_may_be_trained_on_nothing_is_written(tmp_path) -> None:
    data = folder_of(tmp_path / "data", [{"may_train": "no"}] * 3)
    with pytest.raises(NoSamplesError, match="Left out: 3 because the data set says"):
        learning_set(str(data), tmp_path / "out", LearningSettings(56))
    assert not (tmp_path / "out").exists()


def test_no_patient_is_on_both_sides(tmp_path) -> None:
    data = folder_of(tmp_path / "data", [{"patient": f"p{number % 7}"} for number in range(21)])
    found = learning_set(str(data), tmp_path / "out", LearningSettings(56, val_share=0.4))
    sides = [
        {row["extra_info"]["patient_key"] for row in rows_of(found, split)}
        for split in (TRAIN, VALIDATION)
    ]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 7
    assert found.manifest.rows == 21


def test_questions_about_one_image_stay_together_where_no_patient_is_told(tmp_path) -> None:
    rows = umrg_rows(6)
    for row in rows[3:]:
        row["images"] = rows[0]["images"]
    data = umrg.write(tmp_path / "some.parquet", rows)
    found = learning_set(str(data), tmp_path / "out", LearningSettings(84, val_share=0.5))
    split_of = {
        row["extra_info"]["id"]: split
        for split in (TRAIN, VALIDATION)
        for row in rows_of(found, split)
    }
    assert len(split_of) == 6
    counts = found.manifest.splits
    assert counts[TRAIN].patients + counts[VALIDATION].patients == 3


def test_a_patient_who_validates_is_not_learnt_from(tmp_path) -> None:
    told = [("a", "train"), ("b", "train"), ("b", "validation"), ("c", "validation"), ("d", "test")]
    data = folder_of(tmp_path / "data", [{"patient": p, "split": s} for p, s in told])
    found = learning_set(str(data), tmp_path / "out", LearningSettings(56))
    counts = found.manifest.splits
    assert (counts[TRAIN].rows, counts[VALIDATION].rows) == (1, 2)
    assert reasons(found) == {VALIDATES: 1}


def test_a_patient_of_the_test_split_is_not_learnt_from(tmp_path) -> None:
    told = [("a", "train"), ("b", "train"), ("c", "train"), ("c", "test"), ("d", "test")]
    data = folder_of(tmp_path / "data", [{"patient": p, "split": s} for p, s in told])
    found = learning_set(str(data), tmp_path / "out", LearningSettings(56, val_share=0.5))
    assert found.manifest.rows == 2
    assert reasons(found) == {TESTED: 1}


def test_a_learning_set_is_gone_on_with_only_if_it_is_of_the_same_data(tmp_path) -> None:
    data = umrg.write(tmp_path / "all.parquet", umrg_rows())
    settings = LearningSettings(84)
    found = learning_set(str(data), tmp_path / "out", settings)
    require_same_data(found, str(data), settings)
    with pytest.raises(DatasetFolderError, match="other data or with other settings"):
        require_same_data(found, str(data), LearningSettings(84, val_share=0.3))
    umrg.write(data, umrg_rows(4))
    with pytest.raises(DatasetFolderError, match="other data or with other settings"):
        require_same_data(found, str(data), settings)


def test_a_test_split_is_learnt_from_only_if_it_is_asked_for(tmp_path) -> None:
    data = str(umrg.write(tmp_path / "test.parquet", umrg_rows()))
    with pytest.raises(EvaluationDataError, match="no split to learn from; it has: test"):
        learning_set(data, tmp_path / "out", LearningSettings(84))
    found = learning_set(data, tmp_path / "out", LearningSettings(84, split="test"))
    assert found.manifest.rows == 5
    with pytest.raises(DatasetFolderError, match="not empty"):
        learning_set(data, tmp_path / "out", LearningSettings(84, split="test"))


def test_held_out_super_categories_are_not_learnt_from(tmp_path) -> None:
    data = str(umrg.write(tmp_path / "all.parquet", umrg_rows()))
    settings = LearningSettings(84, held_out_super_categories=("lung",))
    found = learning_set(data, tmp_path / "out", settings)
    assert found.manifest.rows == 3  # abdomen and lung take turns


def test_box_and_points_are_those_of_the_data_set_at_the_models_size(tmp_path) -> None:
    data = str(umrg.write(tmp_path / "all.parquet", umrg_rows()))
    found = learning_set(data, tmp_path / "out", LearningSettings(168))
    stored = [read_sample(row) for split in (TRAIN, VALIDATION) for row in rows_of(found, split)]
    by_question = {each.query: each for each in stored}
    for number, (x1, y1, x2, y2) in enumerate(BOXES):
        sample = by_question[f"Which part {number} is bright?"]
        assert sample.truth.bbox_xyxy_px == (2 * x1, 2 * y1, 2 * x2, 2 * y2)
        assert sample.image.shape == (168, 168, 3)
        assert sample.mask.sum() == 4 * (x2 - x1) * (y2 - y1)
        ((px, py), _) = sample.truth.points_xy_px
        assert (px, py) == (2 * (x1 + (x2 - x1) // 4), y1 + y2)


def test_a_target_without_a_mask_is_counted_and_an_absent_one_is_learnt(tmp_path) -> None:
    rows = umrg_rows()
    rows[0]["masks"] = []
    rows[1]["masks"], rows[1]["reward_model"]["ground_truth"] = [], "null"
    data = str(umrg.write(tmp_path / "all.parquet", rows))
    found = learning_set(data, tmp_path / "out", LearningSettings(84, val_share=0.0))
    assert reasons(found) == {NO_MASK: 1}
    assert found.manifest.splits[TRAIN].absent == {"liver": 1}


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_two_patients_validate_at_least(tmp_path, share) -> None:
    data = str(umrg.write(tmp_path / "all.parquet", umrg_rows(6)))
    counts = learning_set(data, tmp_path / "out", LearningSettings(84, share)).manifest.splits
    assert counts[VALIDATION].patients >= 2
    assert counts[TRAIN].patients + counts[VALIDATION].patients == 6


def test_a_single_patient_cannot_both_train_and_validate(tmp_path) -> None:
    data = folder_of(tmp_path / "data", [{"patient": "a"}] * 3)
    with pytest.raises(TooFewPatientsError, match="of one patient"):
        learning_set(str(data), tmp_path / "out", LearningSettings(56))


WITHOUT_A_SERVER = """
import sys
sys.modules["monailabel"] = None
from monailabel_app.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_a_parquet_of_u_mrgs_schema_is_read_measured_and_trained_on(tmp_path, method) -> None:
    """Two steps of a model of 0.1 M parameters, in a process that cannot import MONAI Label."""
    pytest.importorskip("trl")
    model, data = tmp_path / "nano", tmp_path / "umrg" / "all.parquet"
    save_tiny_qwen(model)
    prompt = {"system": "Ground.", "user_template": "{query}", "input_size": 112}
    more = {"image_encoding": "rgb", "max_reasoning_chars": 8}
    (model / "prompt.json").write_text(json.dumps(prompt | more))
    umrg.write(data, umrg_rows(12))

    def medreasoner(*arguments: object, status: int = 0) -> str:
        command = [sys.executable, "-c", WITHOUT_A_SERVER, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    changes = (
        f"model.name={model}", "tuning=full", "data.replay_share=0", "data.replay=null",
        "sft.steps=2" if method == "sft" else "sft.steps=0", "sft.batch=2", "sft.micro_batch=2",
        "grpo.steps=2", "grpo.prompts_per_step=1", "grpo.generations=2",
        "grpo.max_completion_tokens=16", "run.eval_steps=0", "gate.resamples=100",
    )  # fmt: skip
    settings = [word for change in changes for word in ("--set", change)]
    run = tmp_path / "run"
    options = ("--out", run, "--method", method, "--val-share", 0.5)
    # What random weights write earns nothing, so that there is nothing to prefer.
    status = 1 if method == "grpo" else 0
    said = medreasoner("train", "--dataset", data, *options, *settings, status=status)
    counts = re.search(r"train (\d+) rows of (\d+) patients, validation (\d+) rows of", said)
    assert int(counts[1]) + int(counts[3]) == 12
    assert counts[1] == counts[2]
    progress = json.loads((run / "progress.json").read_text())
    assert progress["step"] == 2
    if method == "grpo":
        assert (progress["state"], progress["reward"]) == ("failed", 0)
        assert "changed no weight" in progress["message"]
        return
    assert progress["state"] == "finished"
    (folder,) = [line.split("model: ")[1] for line in said.splitlines() if "model: " in line]
    before, after = (Path(f) / "model.safetensors" for f in (model, folder))
    assert after.read_bytes() != before.read_bytes()
    report = tmp_path / "report"
    medreasoner("evaluate", data, "--reasoner", folder, "--out", report, "--resamples", "100")
    assert json.loads((report / "report.json").read_text())["n"] == 12
