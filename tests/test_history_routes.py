# SPDX-License-Identifier: Apache-2.0
"""The app on a folder with a DICOM series: from a submitted label to results that are DICOM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

pytest.importorskip("monailabel")
pytest.importorskip("highdicom")

import monailabel.app
import monailabel.interfaces.utils.app as app_registry
from fastapi.testclient import TestClient
from monailabel.config import settings

from medreasoner_infer.imaging import Plane, load_volume, write_mask
from monailabel_app.app import MedReasonerApp
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.dicom.archive import FolderArchive
from monailabel_app.dicom.history import read_record

SHAPE_IJK = (8, 7, 5)


class OnePipeline:
    """Answers each question with the same mask, made when it sees the volume."""

    def __init__(self, answered) -> None:
        self._answered = answered
        self._asked = 0

    def ask(self, volume, request, hooks):
        self._asked += 1
        mask = np.zeros(volume.shape_ijk, np.uint8)
        mask[2:5, 1:4, 1:3] = 1
        return self._answered(volume, Plane.AXIAL, 2, mask, name=f"inference-{self._asked}")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    grid = CtGrid((1, 1, 2), (0, 0, 0), np.eye(3))
    return write_ct_series(np.zeros(SHAPE_IJK[::-1]), grid, tmp_path / "studies" / "ct", seed=1)


@pytest.fixture
def client(monkeypatch, tmp_path: Path, series: Path, answered) -> TestClient:
    studies, folder = str(tmp_path / "studies"), str(tmp_path / "app")
    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    monkeypatch.setattr(settings, "MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
    monkeypatch.setattr(settings, "MONAI_LABEL_APP_DIR", folder)
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", studies)
    app = MedReasonerApp(folder, studies, {}, pipeline=OnePipeline(answered))
    monkeypatch.setitem(app_registry.apps, f"{folder}{studies}", app)
    yield TestClient(monailabel.app.app, raise_server_exceptions=False)
    app.site.results.stop()
    app.site.records.close()


def ask_and_submit(client, series: Path, folder: Path) -> tuple[str, np.ndarray]:
    """One question and its label; returns the study and the label's mask."""
    header = pydicom.dcmread(series / "0001.dcm")
    image = str(header.SeriesInstanceUID)
    question = {"params": json.dumps({"query": "Which organ?"})}
    client.post(f"/infer/medreasoner?image={image}&output=json", data=question)
    mask = np.zeros(SHAPE_IJK, np.uint8)
    mask[2:4, 1:4, 1:3] = 1
    label = write_mask(mask, load_volume(series), folder / "l.nii.gz")
    client.put(
        f"/datastore/label?image={image}&tag=final",
        data={"params": json.dumps({"inference_id": "inference-1"})},
        files={"label": ("l.nii.gz", label.read_bytes())},
    ).raise_for_status()
    return str(header.StudyInstanceUID), mask


def shown_again(client, study: str) -> np.ndarray:
    """The mask (I, J, K) of the first question as the archive has it."""
    answer = client.get("/medreasoner/history/inference-1/mask", params={"study": study}).json()
    values = np.arange(len(answer["runs"])) % 2
    return np.repeat(values, answer["runs"]).reshape(answer["shape_ijk"], order="F")


def test_what_the_archive_has_is_listed_and_shown_without_the_servers_records(
    client, series, tmp_path
) -> None:
    study, mask = ask_and_submit(client, series, tmp_path)
    deleted = client.delete("/medreasoner/inferences", params={"study": study}).json()
    assert deleted["inferences"] == 1
    found = client.get("/medreasoner/history", params={"study": study}).json()
    assert found["unreadable"] == []
    (record,) = found["records"]
    assert record["inference_id"] == "inference-1"
    assert record["result"]["reasoning"] == "The liver does.\nIt is large."
    assert record["decision"]["outcome"] == "edited"
    np.testing.assert_array_equal(shown_again(client, study), mask)
    unknown = client.get("/medreasoner/history/inference-9/mask", params={"study": study})
    assert unknown.status_code == 404
    assert client.get("/medreasoner/history", params={"study": "../x"}).status_code == 422


def test_a_decision_after_the_label_keeps_the_mask_and_a_rejection_withdraws_it(
    client, series, tmp_path
) -> None:
    study, mask = ask_and_submit(client, series, tmp_path)
    address = "/medreasoner/inferences/inference-1/decision"
    client.put(address, json={"outcome": "accepted"}).raise_for_status()
    np.testing.assert_array_equal(shown_again(client, study), mask)
    client.put(address, json={"outcome": "rejected", "reason": "Not it."}).raise_for_status()
    assert not shown_again(client, study).any()


def test_submitted_and_rejected_answers_are_dicom_and_can_be_deleted(
    client, series, tmp_path
) -> None:
    header = pydicom.dcmread(series / "0001.dcm")
    image, study = str(header.SeriesInstanceUID), str(header.StudyInstanceUID)
    for _ in range(2):
        question = {"params": json.dumps({"query": "Which organ?"})}
        client.post(f"/infer/medreasoner?image={image}&output=json", data=question)
    mask = np.zeros(SHAPE_IJK, np.uint8)
    mask[2:5, 1:4, 1:3] = 1
    label = write_mask(mask, load_volume(series), tmp_path / "l.nii.gz")
    info = {"label_info": [{"name": "left kidney", "idx": 1, "inference_id": "inference-1"}]}
    reply = client.put(
        f"/datastore/label?image={image}&tag=final", data={"params": json.dumps(info)},
        files={"label": ("l.nii.gz", label.read_bytes())},
    ).json()  # fmt: skip
    assert reply["medreasoner"]["pacs"]["state"] == "sent"
    address = "/medreasoner/inferences"
    refused = client.put(f"{address}/inference-2/decision", json={"outcome": "rejected"})
    assert refused.status_code == 422
    client.put(
        f"{address}/inference-2/decision", json={"outcome": "rejected", "reason": "Not it."}
    ).raise_for_status()
    exported = client.get(f"{address}/export", params={"study": study}).json()["inferences"]
    outcomes = {e["inference_id"]: e["decision"]["outcome"] for e in exported}
    assert outcomes == {"inference-1": "accepted", "inference-2": "rejected"}

    studies = tmp_path / "studies"
    history = read_record(FolderArchive(studies, studies / ".medreasoner" / "dicom"), study)
    assert history.unreadable == ()
    masks = {result.record.id: result.mask_ijk for result in history.results}
    np.testing.assert_array_equal(masks["inference-1"], mask)
    assert not masks["inference-2"].any()
    (segmentation,) = (
        dataset
        for path in (studies / ".medreasoner" / "dicom" / study).iterdir()
        if (dataset := pydicom.dcmread(path)).Modality == "SEG"
    )
    kind = segmentation.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    assert kind.CodeMeaning == "Kidney"

    assert client.get(address).status_code == 422
    deleted = client.delete(address, params={"study": study}).json()
    assert deleted == {"inferences": 2, "labels": 1}
    assert client.get(address, params={"study": study}).json() == []
