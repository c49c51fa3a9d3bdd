# SPDX-License-Identifier: Apache-2.0
"""Every check finds the fault that was planted, and nothing in a sound row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("datasets")

from support import umrg
from typer.testing import CliRunner

from medreasoner_infer.language import LANGUAGES, vocabulary
from medreasoner_infer.language.sides import side_words
from medreasoner_training.dataset import check_dataset
from medreasoner_training.dataset.checks import (
    BOX_NOT_TIGHT,
    CONTRADICTION,
    DUPLICATE,
    EMPTY_QUESTION,
    IMAGE_IN_TWO_SPLITS,
    MASK_OF_ABSENT,
    MASK_ON_OTHER_SIDE,
    NAMES_NOTHING,
    NAMES_TARGET,
    NO_CATEGORY,
    NO_LICENCE,
    NO_MASK,
    NO_SPLIT,
    PATIENT_IN_TWO_SPLITS,
    POINT_OUTSIDE,
    TRAINS_UNLICENSED,
    WRONG_SIDE,
    Carried,
    Checkable,
    TogetherChecks,
    faults_of,
)
from medreasoner_training.dataset.targets import named_target, names_target
from medreasoner_training.evaluation import open_rows

MASK = np.zeros((40, 60), bool)
MASK[10:30, 35:50] = True
SOUND = Checkable(
    question="Which organ has a lingula on the patient's left?",
    kind="implicit",
    language="en",
    named=named_target("left lung"),
    bbox_xyxy_px=(35, 10, 50, 30),
    points_xy_px=((42, 20), (42, 12)),
    mask=MASK,
    mirrored=True,
    licence="CC-BY-4.0",
    split="train",
    may_train=True,
)
ABSENT = replace(SOUND, bbox_xyxy_px=None, points_xy_px=(), mask=None)


def test_a_sound_row_has_no_fault() -> None:
    assert faults_of(SOUND, Carried()) == []
    assert faults_of(ABSENT, Carried()) == []
    assert faults_of(replace(SOUND, bbox_xyxy_px=(35, 10, 49, 29)), Carried()) == []


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (replace(SOUND, question=" ?! "), EMPTY_QUESTION),
        (replace(SOUND, question="Mark the lung on the patient's left."), NAMES_TARGET),
        (replace(SOUND, question="Wo ist der Lungenflügel links?", language="de"), NAMES_TARGET),
        (replace(SOUND, question="Dov'è il polmone sinistro?", language="it"), NAMES_TARGET),
        (replace(SOUND, question="患者的左肺在哪里？", language="zh"), NAMES_TARGET),
        (replace(SOUND, question="Which pulmonary tissue is it?"), NAMES_TARGET),
        (replace(SOUND, kind="explicit"), NAMES_NOTHING),
        (replace(SOUND, question="What breathes on the patient's right?"), WRONG_SIDE),
        (replace(SOUND, question="Was atmet rechts?", language="de"), WRONG_SIDE),
        (replace(SOUND, question="患者の右側で呼吸する臓器は？", language="ja"), WRONG_SIDE),
        (replace(SOUND, mask=MASK[:, ::-1], bbox_xyxy_px=(10, 10, 25, 30),
                 points_xy_px=((17, 20), (17, 12))), MASK_ON_OTHER_SIDE),
        (replace(SOUND, points_xy_px=((42, 20), (42, 30))), POINT_OUTSIDE),
        (replace(SOUND, points_xy_px=((42, 20), (-1, 20))), POINT_OUTSIDE),
        (replace(SOUND, bbox_xyxy_px=(35, 10, 52, 30)), BOX_NOT_TIGHT),
        (replace(SOUND, bbox_xyxy_px=(33, 10, 50, 30)), BOX_NOT_TIGHT),
        (replace(SOUND, mask=None), NO_MASK),
        (replace(SOUND, mask=np.zeros_like(MASK)), NO_MASK),
        (replace(ABSENT, mask=MASK), MASK_OF_ABSENT),
        (replace(SOUND, named=named_target("")), NO_CATEGORY),
        (replace(SOUND, licence=""), NO_LICENCE),
        (replace(SOUND, split="", may_train=False), NO_SPLIT),
        (replace(SOUND, may_train=False), TRAINS_UNLICENSED),
        (replace(SOUND, licence="CC-BY-NC-SA-4.0", split="test"), TRAINS_UNLICENSED),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found_and_no_other(row, fault) -> None:
    assert faults_of(row, Carried()) == [fault]


def test_non_commercial_rows_may_be_tested_on() -> None:
    row = replace(SOUND, licence="CC-BY-NC-4.0", may_train=False, split="test")
    assert faults_of(row, Carried()) == []


def test_sides_of_the_image_and_an_unknown_projection_say_nothing_of_the_patient() -> None:
    mirrored = replace(SOUND, mask=MASK[:, ::-1], bbox_xyxy_px=(10, 10, 25, 30))
    mirrored = replace(mirrored, points_xy_px=((17, 20), (17, 12)), mirrored=None)
    assert faults_of(mirrored, Carried()) == []
    text = "Which breathing organ lies in the right half of the image?"
    assert faults_of(replace(SOUND, question=text), Carried()) == []


def test_rows_are_checked_together() -> None:
    together = TogetherChecks()
    assert together.add(b"image", "Where?", b"mask", "p1", "train") is None
    assert together.add(b"image", "where", b"mask", "p1", "train") == DUPLICATE
    assert together.add(b"image", "Where?", b"other", "p1", "train") == CONTRADICTION
    assert together.add(b"image", "What?", b"mask", "p1", "test") == IMAGE_IN_TWO_SPLITS
    assert together.add(b"new", "Where?", b"mask", "p1", "test") == PATIENT_IN_TWO_SPLITS
    assert together.add(b"new", "Where?", b"mask", "", "test") is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_name_of_every_target_is_found_in_a_sentence(language) -> None:
    missed = []
    for target in vocabulary().targets.values():
        named = named_target(target.name)
        for name in target.names.get(language, ()):
            text = f"{name.spelt}!" if language in ("zh", "ja") else f"Hm, {name.spelt} ?"
            if not names_target(text, named):
                missed.append((target.name, name.spelt))
    assert missed == []


def test_short_words_of_other_languages_are_no_abbreviations() -> None:
    atrium = named_target("left atrium")
    assert names_target("Show the LA.", atrium)
    assert not names_target("Où est la cavité qui reçoit le sang des poumons ?", atrium)
    assert not names_target("Which organ delivers the blood?", named_target("liver"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_words_of_the_two_sides_differ(language) -> None:
    words = side_words(language)
    assert words["left"]
    assert words["right"]
    assert not words["left"] & words["right"]


def rows() -> list[dict]:
    return [
        umrg.row(0, (10, 20, 50, 40), "Which organ makes bile?", "liver"),
        umrg.row(1, (4, 4, 24, 64), "Where is urine made?", "kidney"),
        umrg.row(2, (30, 30, 70, 50), "Mark the renal tissue.", "kidney"),
    ]


def report_of(folder: Path, found: list[dict], **options):
    umrg.write(folder / "test.parquet", found)
    return check_dataset(open_rows(str(folder), split="all"), **options)


def test_a_sound_file_of_u_mrg_passes_and_is_counted(tmp_path) -> None:
    report = report_of(tmp_path, rows())
    assert (report.rows, report.faulty_rows, report.faults) == (3, 0, ())
    assert report.notes == ("No row tells its licence.",)
    counts = report.statistics.counts
    assert counts["super_category"] == {"abdomen": 2, "lung": 1}
    assert counts["category"] == {"kidney": 2, "liver": 1}
    assert (counts["split"], counts["target"]) == ({"test": 3}, {"present": 3})
    words = report.statistics.question_words
    assert (words.mean, words.least, words.most) == (4.0, 4.0, 4.0)
    shares = np.array([40 * 20, 20 * 60, 40 * 20]) / 84**2
    assert report.statistics.box_area_share.mean == pytest.approx(shares.mean())
    assert report.statistics.mask_area_share.most == pytest.approx(shares.max())


def test_questions_of_u_mrg_can_be_held_to_be_implicit(tmp_path) -> None:
    report = report_of(tmp_path, rows(), all_implicit=True)
    assert [(f.reason, f.count, f.examples) for f in report.faults] == [
        (NAMES_TARGET, 1, ("umrg_00002",))
    ]


def planted(kind: str) -> list[dict]:
    found = rows()
    truth = json.loads(found[1]["reward_model"]["ground_truth"])
    if kind == "box":
        truth["bbox_2d"] = [4, 4, 24, 70]
    elif kind == "point":
        truth["point_2d"][0] = [80, 80]
    found[1]["reward_model"]["ground_truth"] = "null" if kind == "absent" else json.dumps(truth)
    if kind == "question":
        found[1]["prompt"][0]["content"] = " "
    elif kind == "twice":
        found[1] = found[0]
    elif kind == "mask":
        found[1]["masks"] = [umrg.picture(np.zeros((5, 5), np.uint8))]
    return found


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("box", BOX_NOT_TIGHT), ("point", POINT_OUTSIDE), ("question", EMPTY_QUESTION),
        ("twice", DUPLICATE), ("mask", "cannot be read"),
    ],
)  # fmt: skip
def test_the_command_ends_with_status_1_and_names_the_fault(tmp_path, kind, said) -> None:
    pytest.importorskip("monailabel")
    from monailabel_app.cli.app import app

    umrg.write(tmp_path / "test.parquet", rows())
    runner = CliRunner(env={"COLUMNS": "200"})
    assert runner.invoke(app, ["dataset", "check", str(tmp_path)]).exit_code == 0
    umrg.write(tmp_path / "test.parquet", planted(kind))
    out = tmp_path / "report.json"
    shown = runner.invoke(app, ["dataset", "check", str(tmp_path), "--out", str(out)])
    assert shown.exit_code == 1
    assert said in shown.output
    (fault,) = json.loads(out.read_text())["faults"]
    assert said in fault["reason"]
    assert fault["count"] == 1
