# SPDX-License-Identifier: Apache-2.0
"""``medreasoner prior``: table, files and refusals."""

from __future__ import annotations

import json

import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom")

from support.priors import PLACE_LPS_MM, OnePipeline, write_series
from typer.testing import CliRunner

from medreasoner_infer.errors import MedReasonerError
from medreasoner_infer.imaging import load_volume
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.priors import OtherPatientError
from monailabel_app.cli.app import app
from monailabel_app.studies.dicom_folder import write_nifti

POSITION = ",".join(map(str, PLACE_LPS_MM))


@pytest.fixture
def run(monkeypatch, answered, tmp_path):
    pipeline = OnePipeline(answered)
    monkeypatch.setattr(Pipeline, "from_registry", lambda *_, **__: pipeline)
    for name, seed, values in (
        ("current", 1, ("A", "20260301")),
        ("prior", 2, ("A", "20250301")),
        ("other", 3, ("B", "20250301")),
    ):
        write_series(tmp_path / name, seed, *values)

    def start(*arguments):
        given = ["prior", *map(str, arguments), "Where is it?", "--plane", "axial",
                 "--position", POSITION, "--out", str(tmp_path / "out")]  # fmt: skip
        return CliRunner().invoke(app, given, env={"COLUMNS": "160"})

    return start


def test_the_table_is_printed_and_all_files_are_written(run, tmp_path) -> None:
    done = run(tmp_path / "current", tmp_path / "prior", "--dicom")
    assert done.exit_code == 0, done.output
    assert "prior 2025-03-01" in done.output
    assert "Volume larger: " in done.output
    assert "Not for clinical use." in done.output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {
        "answer_current.json", "mask_current.nii.gz", "overlay_current.png",
        "answer_prior.json", "mask_prior.nii.gz", "overlay_prior.png",
        "change.json", "side_by_side.png",
        "report.dcm", "segmentation_current.dcm", "segmentation_prior.dcm",
    }  # fmt: skip
    change = json.loads((tmp_path / "out" / "change.json").read_text())
    assert change["change"]["kind"] == "larger"
    assert change["prior_date"] == "20250301"
    assert pydicom.dcmread(tmp_path / "out" / "report.dcm").Modality == "SR"
    assert run(tmp_path / "current", tmp_path / "prior", "--dicom").exit_code == 0  # once more


def test_files_that_tell_no_patient_need_the_users_word(run, tmp_path) -> None:
    files = []
    for name in ("current", "prior"):
        files.append(tmp_path / f"{name}.nii.gz")
        write_nifti(load_volume(tmp_path / name), files[-1])
    refused = run(*files)
    assert isinstance(refused.exception, OtherPatientError)
    assert "--same-patient" in str(refused.exception)
    done = run(*files, "--same-patient", "--same-space")
    assert done.exit_code == 0, done.output
    assert "do not tell when they were made" in " ".join(done.output.split())
    mask = load_volume(tmp_path / "out" / "mask_prior.nii.gz")
    assert np.count_nonzero(mask.array)


def test_another_patient_is_refused(run, tmp_path) -> None:
    refused = run(tmp_path / "current", tmp_path / "other", "--same-patient")
    assert isinstance(refused.exception, MedReasonerError)
    assert "different patients" in str(refused.exception)
    assert not (tmp_path / "out").exists()
