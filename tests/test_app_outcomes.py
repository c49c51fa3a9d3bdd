# SPDX-License-Identifier: Apache-2.0
"""A question that was not understood, from the reply to the archive: never "not present"."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

pytest.importorskip("monailabel")
pytest.importorskip("highdicom")

from fastapi.testclient import TestClient
from support.in_process import app_client

from medreasoner_infer.imaging import Plane, load_volume, write_mask
from monailabel_app.cli.app import app as command_line
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.inference.batch import Batch
from monailabel_app.inference.params import InferParams

WAIT_S = 20
SHAPE_IJK = (8, 7, 5)
RECORD = "/medreasoner/inferences/inference-1"


class Puzzled:
    """Understands no question; a test may have it answer that the target is absent."""

    outcome = "not_understood"

    def __init__(self, answered) -> None:
        self._answered = answered
        self._asked = 0

    def ask(self, volume, request, hooks):
        self._asked += 1
        return self._answered(
            volume,
            Plane.AXIAL,
            2,
            np.zeros(volume.shape_ijk, np.uint8),
            name=f"inference-{self._asked}",
            present=False,
            outcome=self.outcome,
        )


@pytest.fixture
def pipeline(answered) -> Puzzled:
    return Puzzled(answered)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    grid = CtGrid((1, 1, 2), (0, 0, 0), np.eye(3))
    return write_ct_series(np.zeros(SHAPE_IJK[::-1]), grid, tmp_path / "studies" / "ct", seed=1)


@pytest.fixture
def header(series: Path) -> pydicom.Dataset:
    return pydicom.dcmread(series / "0001.dcm")


@pytest.fixture
def client(monkeypatch, tmp_path: Path, series: Path, pipeline) -> Iterator[TestClient]:
    with app_client(monkeypatch, tmp_path, pipeline) as made:
        yield made


def ask(client, header, output="json", **values):
    image = header.SeriesInstanceUID
    return client.post(
        f"/infer/medreasoner?image={image}&output={output}",
        data={"params": json.dumps({"query": "The florb?", **values})},
    )


def submit(client, header, mask: np.ndarray, series: Path, folder: Path, **info):
    label = write_mask(mask.astype(np.uint8), load_volume(series), folder / "l.nii.gz")
    return client.put(
        f"/datastore/label?image={header.SeriesInstanceUID}&tag=final",
        data={"params": json.dumps({"inference_id": "inference-1", **info})},
        files={"label": ("l.nii.gz", label.read_bytes())},
    )


def test_reply_and_record_tell_the_outcome(client, header) -> None:
    params = ask(client, header).json()
    assert (params["present"], params["outcome"]) == (False, "not_understood")
    assert params["medreasoner"]["outcome"] == "not_understood"
    record = client.get(RECORD).json()
    assert (record["present"], record["outcome"]) == (False, "not_understood")
    assert record["result"]["outcome"] == "not_understood"


def test_it_is_said_why_there_is_no_dicom_segmentation(client, header) -> None:
    refused = ask(client, header, "dicom_seg")
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("The question was not understood, and a DICOM")


@pytest.mark.parametrize(("outcome", "kept"), [("absent", True), ("not_understood", False)])
def test_no_empty_label_is_kept_of_it(client, header, pipeline, tmp_path, outcome, kept) -> None:
    pipeline.outcome = outcome
    assert ask(client, header, save_label=True).status_code == 200
    found = list((tmp_path / "studies").glob("labels/original/*"))
    assert bool(found) is kept


def test_a_batch_tells_it_and_keeps_no_label(client, header, tmp_path) -> None:
    image = str(header.SeriesInstanceUID)
    client.services.batch.start(Batch("medreasoner", [image], InferParams(query="?"), "original"))
    deadline = time.monotonic() + WAIT_S
    while client.services.batch.status()["status"] == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.services.batch.status()["details"] == ["1 of 1: question not understood"]
    assert list((tmp_path / "studies").glob("labels/original/*")) == []


def test_it_is_rejected_but_never_accepted(client, header, pipeline) -> None:
    ask(client, header)
    refused = client.put(f"{RECORD}/decision", json={"outcome": "accepted"})
    assert refused.status_code == 422
    assert "no answer to accept" in refused.json()["detail"]
    assert client.get(RECORD).json()["decision"] is None
    rejected = client.put(f"{RECORD}/decision", json={"outcome": "rejected", "reason": "A word."})
    assert rejected.json()["decision"]["outcome"] == "rejected"
    pipeline.outcome = "absent"
    ask(client, header)
    absent = RECORD.replace("-1", "-2")
    accepted = client.put(f"{absent}/decision", json={"outcome": "accepted"})
    assert accepted.json()["decision"]["outcome"] == "accepted"


@pytest.mark.parametrize("said", [{}, {"outcome": "accepted"}])
def test_an_empty_label_does_not_accept_it(client, header, series, tmp_path, said) -> None:
    ask(client, header)
    assert submit(client, header, np.zeros(SHAPE_IJK), series, tmp_path, **said).status_code == 200
    assert client.get(RECORD).json()["decision"] is None


def test_what_the_reader_marks_instead_is_an_edit(client, header, series, tmp_path) -> None:
    ask(client, header)
    mask = np.zeros(SHAPE_IJK)
    mask[2:4, 1:4, 1:3] = 1
    submit(client, header, mask, series, tmp_path).raise_for_status()
    assert client.get(RECORD).json()["decision"]["outcome"] == "edited"


def test_the_archive_and_its_listing_keep_it(client, header, series, tmp_path) -> None:
    ask(client, header)
    reason = {"outcome": "rejected", "reason": "No such word."}
    client.put(f"{RECORD}/decision", json=reason).raise_for_status()
    study = str(header.StudyInstanceUID)
    client.delete("/medreasoner/inferences", params={"study": study}).raise_for_status()
    (record,) = client.get("/medreasoner/history", params={"study": study}).json()["records"]
    assert (record["present"], record["outcome"]) == (False, "not_understood")
    arguments = ["history", study, "--studies", str(tmp_path / "studies"), "--out", str(tmp_path)]
    ended = CliRunner().invoke(command_line, arguments, env={"COLUMNS": "200"})
    assert "not understood" in ended.output, ended.output
    assert "not present" not in ended.output


def test_the_page_of_a_folder_says_it(client, header, pipeline) -> None:
    ask(client, header)
    pipeline.outcome = "absent"
    ask(client, header)
    page = client.get(f"/medreasoner/studies/image?image={header.SeriesInstanceUID}").text
    said = [" ".join(text.split()) for text in re.findall(r"<p>([^<]*not decided)", page)]
    assert said == [
        "Not present on what was looked at; not decided",
        "Question not understood; not decided",
    ]
