# SPDX-License-Identifier: Apache-2.0
"""Whose image is whose, where no header tells it: no person stands on both sides of a split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel")
pytest.importorskip("datasets")

from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    SampleDataset,
    SampleSettings,
    TooFewPatientsError,
)
from monailabel_app.export.exporting import (
    NOT_AMONG_STUDIES,
    PATIENT_UNTOLD,
    ExportSettings,
    export_studies,
)
from monailabel_app.export.patients import PatientTableError
from monailabel_app.export.sides import ALIKE

SHAPE_IJK = (40, 40, 6)
SMALL = ExportSettings(0.4, SampleSettings(128, 1, 0, min_area_px=20))
PEOPLE, VISITS = ("Johanna", "Richard", "Edgar"), 3


def volume(seed: int) -> np.ndarray:
    """Noise in patches, so that no two look alike."""
    coarse = np.random.default_rng(seed).normal(0, 200, (10, 10, 6))
    return np.kron(coarse, np.ones((4, 4, 1))).astype(np.int16)


def write_studies(folder: Path, images: dict[str, np.ndarray]) -> Path:
    """MONAI Label's folder of these images, each with an approved liver."""
    (folder / "labels" / "final").mkdir(parents=True)
    label = np.zeros(SHAPE_IJK, np.uint8)
    label[8:30, 8:30, 2:5] = 1
    info = {"label_info": [{"name": "liver", "idx": 1}]}
    objects = {}
    for image_id, values in images.items():
        for place, content in ((folder, values), (folder / "labels" / "final", label)):
            nibabel.save(nibabel.Nifti1Image(content, np.eye(4)), place / f"{image_id}.nii.gz")
        objects[image_id] = {
            "image": {"ext": ".nii.gz", "info": {"Modality": "CT"}},
            "labels": {"final": {"ext": ".nii.gz", "info": info}},
        }
    config = {"name": "site", "description": "", "images_dir": ".", "objects": objects}
    (folder / "datastore_v2.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def visits(tmp_path) -> Path:
    """Three people with three visits each, told by nothing but the names of the files."""
    images = {
        f"scan{number}_{person}": volume(10 * number + place)
        for place, person in enumerate(PEOPLE)
        for number in range(VISITS)
    }
    return write_studies(tmp_path / "studies", images)


def export(studies: Path, out: str, told: list | None = None) -> SampleDataset:
    tell = None if told is None else told.append
    return export_studies(str(studies), studies.parent / out, SMALL, tell=tell)


def patients(data: SampleDataset) -> list[set[str]]:
    return [
        {each["patient_key"] for each in data.load(split)["extra_info"]}
        for split in (TRAIN, VALIDATION)
    ]


def notes(data: SampleDataset) -> dict[str, int]:
    return {each.reason: each.count for each in data.manifest.notes}


def stored(data: SampleDataset) -> bytes:
    return b"".join(path.read_bytes() for path in data.folder.rglob("*") if path.is_file())


def table(folder: Path, rows: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    lines = ["image,patient", *(f"{image},{patient}" for image, patient in rows.items())]
    (folder / "patients.csv").write_text("\n".join(lines) + "\n")


def test_images_of_which_nothing_tells_the_patient_are_counted(visits):
    data = export(visits, "set")
    assert sum(map(len, patients(data))) == len(PEOPLE) * VISITS
    assert notes(data) == {PATIENT_UNTOLD: len(PEOPLE) * VISITS}


@pytest.mark.parametrize("place", [".", ".medreasoner"])
def test_a_table_keeps_a_person_on_one_side(visits, place):
    rows = {
        f"scan{number}_{person}": f"Person {person}"
        for person in PEOPLE
        for number in range(VISITS)
    }
    rows["scan0_Edgar.nii.gz"] = rows.pop("scan0_Edgar")
    table(visits / place, rows)
    told: list = []
    data = export(visits, "set", told)
    train, validation = patients(data)
    assert len(train | validation) == len(PEOPLE)
    assert not train & validation
    assert notes(data) == {}
    assert [one for one in told if "patients.csv" in one.reason] == []
    assert data.manifest.rows == len(PEOPLE) * VISITS
    assert b"Person" not in stored(data)


def test_a_pattern_keeps_a_person_on_one_side(visits):
    (visits / ".medreasoner").mkdir()
    (visits / ".medreasoner" / "patients.yaml").write_text("pattern: '_(?P<patient>[A-Z]\\w+)$'\n")
    data = export(visits, "set")
    assert sum(map(len, patients(data))) == len(PEOPLE)
    assert b"Johanna" not in stored(data)


def test_gaps_of_the_table_and_images_that_it_makes_up_are_told(visits):
    table(visits, {"scan0_Edgar": "E", "scan1_Edgar": "E", "scan7_Edgar": "E"})
    told: list = []
    data = export(visits, "set", told)
    assert notes(data) == {PATIENT_UNTOLD: len(PEOPLE) * VISITS - 2, NOT_AMONG_STUDIES: 1}
    assert [one.name for one in told if one.reason == NOT_AMONG_STUDIES] == ["scan7_Edgar"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("patients.csv", "file,person\na,b\n", "image,patient"),
        ("patients.csv", "image,patient\nscan0_Edgar,\n", "Line 2"),
        ("patients.csv", "image,patient\na,b\na,c\n", "Line 3 .* another patient"),
        ("patients.csv", b"\xff\xfe\x00", "UTF-8"),
        ("patients.yaml", "pattern: '('\n", "group"),
        ("patients.yaml", "pattern: 'scan'\n", "group"),
        ("patients.yaml", "- scan\n", "group"),
    ],
)
def test_what_cannot_be_read_is_refused(visits, name, content, says):
    (visits / ".medreasoner").mkdir()
    data = content if isinstance(content, bytes) else content.encode()
    (visits / ".medreasoner" / name).write_bytes(data)
    with pytest.raises(PatientTableError, match=says):
        export(visits, "set")
    assert not (visits.parent / "set").exists()


def test_copies_under_other_names_stand_on_one_side(tmp_path):
    """Six images, four of which are one: equal, with noise, and in another contrast."""
    first = volume(1)
    noise = np.random.default_rng(5).normal(0, 10, SHAPE_IJK)
    copies = [first, first.copy(), (first + noise).astype(np.int16), (first // 2 + 30)]
    images = {f"copy{number}": values for number, values in enumerate(copies)}
    images |= {"other": volume(2), "third": volume(3)}
    data = export(write_studies(tmp_path / "studies", images), "set")
    sides = [
        {each["case_key"] for each in data.load(split)["extra_info"]}
        for split in (TRAIN, VALIDATION)
    ]
    assert sorted(map(len, sides)) in ([1, 5], [2, 4])
    assert notes(data)[ALIKE] == len(copies)
    again = write_studies(tmp_path / "again", dict.fromkeys(images, copies[0]))
    shutil.copytree(tmp_path / "studies" / ".medreasoner", again / ".medreasoner")
    with pytest.raises(TooFewPatientsError, match="The images of all 6 patients are the same"):
        export(again, "second")
