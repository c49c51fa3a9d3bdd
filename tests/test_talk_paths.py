# SPDX-License-Identifier: Apache-2.0
"""Dialogues at the command line and the server: one record, the reader's own mask, and who may."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("monailabel")

import monailabel.app
from fastapi.testclient import TestClient
from monailabel.config import settings
from monailabel.interfaces.utils import app as app_registry
from support.bright import BRIGHT_IJK, SHAPE_IJK, BrightReasoner, BrightSegmenter

from medreasoner_infer.pipeline import Pipeline
from monailabel_app.app import MedReasonerApp
from monailabel_app.cli.app import app as cli
from monailabel_app.web.streaming.events import mask_runs


@pytest.fixture
def studies(tmp_path: Path, monkeypatch) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    values = np.full(SHAPE_IJK, -900, np.int16)
    values[BRIGHT_IJK] = 400
    for name in ("ct", "other"):
        affine = np.diag([2.0, 1.5, 4.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(values, affine), folder / f"{name}.nii.gz")
    pipeline = Pipeline(BrightReasoner, BrightSegmenter)
    monkeypatch.setattr(Pipeline, "from_registry", classmethod(lambda cls, *a, **k: pipeline))
    return folder


@pytest.fixture
def client(studies, tmp_path, monkeypatch) -> TestClient:
    folder = str(tmp_path / "app")
    for name, value in (
        ("DATASTORE_AUTO_RELOAD", False), ("SESSION_PATH", str(tmp_path / "sessions")),
        ("APP_DIR", folder), ("STUDIES", str(studies)),
    ):  # fmt: skip
        monkeypatch.setattr(settings, f"MONAI_LABEL_{name}", value)
    pipeline = Pipeline(BrightReasoner, BrightSegmenter)
    app = MedReasonerApp(folder, str(studies), {}, pipeline=pipeline)
    monkeypatch.setitem(app_registry.apps, f"{folder}{studies}", app)
    return TestClient(monailabel.app.app, raise_server_exceptions=False)


def asked(client, image, **values):
    form = {"params": json.dumps(values)}
    return client.post(f"/infer/medreasoner?image={image}&output=json", data=form)


def command(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_dialogue_at_the_command_line_writes_each_answer(studies, tmp_path) -> None:
    out = tmp_path / "out"
    result = command(
        "ask", studies / "ct.nii.gz", "Where is the liver?", "--slice", 4, "--propagate",
        "--then", "How large is it?", "--then", "and on the next slice?", "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    answers = [json.loads((out / f"answer_{n}.json").read_text()) for n in (1, 2, 3)]
    assert [answer["kind"] for answer in answers] == ["ask", "measure", "ask"]
    measured = answers[1]["reading"]["measured"]
    assert measured["longest"]["length_mm"] == pytest.approx(np.hypot(16, 12), abs=1e-3)
    assert measured["volume_ml"] == pytest.approx(8 * 8 * 5 * 12 / 1000)
    assert answers[1]["reading"]["about_inference_id"] == answers[0]["inference_id"]
    assert answers[2]["slice"]["index"] == 3  # towards the feet
    told = " ".join(result.output.split())
    assert "Longest diameter 20.0 mm" in told
    assert "Read as: segment the liver, one slice towards the feet." in told
    rows = json.loads((out / "answers.json").read_text())["answers"]
    assert [row["question"] for row in rows] == [
        "Where is the liver?", "How large is it?", "and on the next slice?"
    ]  # fmt: skip


def test_an_answer_that_was_written_is_measured_later(studies, tmp_path) -> None:
    out = tmp_path / "out"
    image = studies / "ct.nii.gz"
    assert command("ask", image, "Where is the liver?", "--slice", 4, "--out", out).exit_code == 0
    about = out / "answer.json"
    later = tmp_path / "later"
    result = command("ask", image, "measure it", "--about", about, "--out", later)
    assert result.exit_code == 0, result.output
    answer = json.loads((later / "answer.json").read_text())
    assert (answer["kind"], answer["reading"]["measured"]["area_px"]) == ("measure", 64)


def test_a_list_is_no_part_of_a_dialogue(studies, tmp_path) -> None:
    result = command("ask", studies / "ct.nii.gz", "liver and spleen", "--then", "How large is it?")
    assert result.exit_code == 2
    assert "several targets" in " ".join(result.output.replace("│", " ").split())


def test_the_server_measures_the_mask_that_it_recorded(client) -> None:
    first = asked(client, "ct", query="Where is the liver?", slice=4, propagate=True).json()
    about = {"about_inference": first["inference_id"]}
    sizes = asked(client, "ct", query="How large is it?", **about).json()
    told = sizes["medreasoner"]
    assert told["kind"] == "measure"
    assert told["reading"]["measured"]["slices"] == 5
    assert told["reasoner"] is None
    assert sizes["target"] == {"name": "liver"}
    kept = client.get(f"/medreasoner/inferences/{sizes['inference_id']}").json()
    assert kept["result"] == told
    streamed = client.post(
        "/medreasoner/streams/ask?image=ct", json={"query": "its volume", **about}
    )
    assert '"kind": "measure"' in streamed.text or '"kind":"measure"' in streamed.text
    voxels = client.get(f"/medreasoner/masks/{sizes['inference_id']}").json()["runs"]
    assert voxels == client.get(f"/medreasoner/masks/{first['inference_id']}").json()["runs"]


def test_what_the_reader_sees_is_measured(client) -> None:
    first = asked(client, "ct", query="Where is the liver?", slice=4).json()
    mask = np.zeros(SHAPE_IJK, bool)
    mask[3:5, 3:13, 4] = True
    corrected = {"shape_ijk": list(SHAPE_IJK), "runs": mask_runs(mask)}
    about = {"about_inference": first["inference_id"], "about_mask": corrected}
    told = asked(client, "ct", query="measure it", **about).json()["medreasoner"]
    assert told["reading"]["measured"]["area_px"] == 20
    alone = asked(client, "ct", query="measure it", about_mask=corrected)
    assert alone.status_code == 422
    assert "'about_mask' goes with" in alone.json()["detail"]


def test_an_answer_on_another_image_or_of_nobody_is_refused(client) -> None:
    first = asked(client, "ct", query="Where is the liver?", slice=4).json()
    about = {"about_inference": first["inference_id"]}
    elsewhere = asked(client, "other", query="How large is it?", **about)
    assert elsewhere.status_code == 422
    assert "about another image" in elsewhere.json()["detail"]
    unknown = asked(client, "ct", query="How large is it?", about_inference="nobody")
    assert unknown.status_code == 404


def test_a_label_belongs_to_the_answer_and_not_to_what_measured_it(client, tmp_path) -> None:
    first = asked(client, "ct", query="Where is the liver?", slice=4).json()
    asked(client, "ct", query="How large is it?", about_inference=first["inference_id"])
    label = tmp_path / "label.nii.gz"
    values = np.zeros(SHAPE_IJK, np.uint8)
    values[BRIGHT_IJK] = 1
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 1.5, 4.0, 1.0])), label)
    sent = {"label": (label.name, label.read_bytes(), "application/gzip")}
    client.put("/datastore/label?image=ct&tag=final", files=sent, data={"params": "{}"})
    kept = client.get(f"/medreasoner/inferences/{first['inference_id']}").json()
    assert len(kept["labels"]) == 1


def test_the_server_tells_which_text_refers_to_an_answer(client) -> None:
    def read(text):
        return client.post("/medreasoner/questions", json={"query": text}).json()

    assert read("How large is it?")["follows_up"] is True
    assert read("Where is the liver?")["follows_up"] is False
