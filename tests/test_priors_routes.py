# SPDX-License-Identifier: Apache-2.0
"""The app on a folder with two studies of a patient: priors listed, both asked, report stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

pytest.importorskip("monailabel")
pytest.importorskip("highdicom")

from fastapi.testclient import TestClient
from support.in_process import app_client
from support.priors import PLACE_LPS_MM, OnePipeline, write_series

from monailabel_app.dicom.archive import FolderArchive


@pytest.fixture
def uids(tmp_path: Path) -> dict[str, str]:
    studies = tmp_path / "studies"
    told = {
        "current": ("A", "20260301"),
        "last_year": ("A", "20250301"),
        "before": ("A", "20230301"),
        "later": ("A", "20260401"),
        "other_patient": ("B", "20250301"),
        "knee": ("A", "20250101", "KNEE"),
    }
    return {
        name: write_series(studies / name, seed, *values)
        for seed, (name, values) in enumerate(told.items(), start=1)
    }


@pytest.fixture
def pipeline(answered) -> OnePipeline:
    return OnePipeline(answered)


@pytest.fixture
def client(monkeypatch, tmp_path: Path, uids, pipeline) -> Iterator[TestClient]:
    with app_client(monkeypatch, tmp_path, pipeline) as opened:
        yield opened


def compared(client, uids, prior="last_year", **body):
    question = {"query": "Where is it?", "plane": "axial", "position": list(PLACE_LPS_MM)}
    return client.post(
        "/medreasoner/priors",
        params={"image": uids["current"]},
        json={**question, "prior": uids[prior], **body},
    )


def test_earlier_series_of_the_patient_and_part_are_listed_the_latest_first(client, uids) -> None:
    found = client.get("/medreasoner/priors", params={"image": uids["current"]}).json()
    assert [each["image_id"] for each in found] == [uids["last_year"], uids["before"]]
    assert found[0]["study_date"] == "20250301"
    assert found[0]["description"] == "series 2"
    assert "A" not in {value for each in found for value in each.values()}
    unknown = client.get("/medreasoner/priors", params={"image": "1.2.3"})
    assert unknown.status_code == 404


def test_both_are_recorded_with_the_change_and_told_again(client, uids, pipeline) -> None:
    told = compared(client, uids).json()
    assert told["change"]["kind"] == "larger"
    assert (told["current"], told["prior"]) == ("inference-1", "inference-2")
    assert [row["name"] for row in told["rows"]] == ["volume", "long diameter", "short diameter"]
    assert told["alignment"]["method"] == "same_frame"
    assert all(request.propagate for request in pipeline.requests)
    assert [look.propagate for look in pipeline.second_looks] == [True, True]
    listed = client.get("/medreasoner/inferences", params={"image": uids["current"]}).json()
    assert [record["inference_id"] for record in listed] == ["inference-1"]
    for name, key in (("inference-1", "current"), ("inference-2", "last_year")):
        record = client.get(f"/medreasoner/inferences/{name}").json()
        assert record["image_id"] == uids[key]
    prior = client.get("/medreasoner/inferences/inference-2").json()["result"]["prior_of"]
    assert prior["current_inference_id"] == "inference-1"
    assert prior["change"] == told["change"]
    assert client.get("/medreasoner/priors/inference-2").json() == told
    assert client.get("/medreasoner/priors/inference-1").status_code == 404
    picture = client.get("/medreasoner/priors/inference-2/picture")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content[:4] == b"\x89PNG"


def test_report_and_masks_are_stored_once_in_both_studies(client, uids, tmp_path) -> None:
    told = compared(client, uids).json()
    stored = [client.post("/medreasoner/priors/inference-2/report").json() for _ in range(2)]
    assert stored[0] == stored[1]
    assert stored[0]["stored"] == ["report", "segmentation_current", "segmentation_prior"]
    kept = [pydicom.dcmread(path) for path in client.site.paths.results.rglob("*.dcm")]
    assert sorted(each.Modality for each in kept) == ["SEG", "SEG", "SR"]
    assert len({each.StudyInstanceUID for each in kept}) == 2
    archive = FolderArchive(tmp_path / "studies", client.site.paths.results)
    assert archive.reports(stored[0]["study"]) == []  # the history lists answers
    assert told["prior"] == "inference-2"


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ("other_patient", "different patients"),
        ("later", "exchange"),
        ("current", "the image itself"),
    ],
)
def test_what_is_no_prior_is_refused_before_anything_is_asked(
    client, uids, pipeline, prior, words
) -> None:
    answer = compared(client, uids, prior)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert pipeline.requests == []


def test_what_a_caller_writes_is_checked(client, uids) -> None:
    assert compared(client, uids, prior="before", plane="skewed").status_code == 422
    path = client.post(
        "/medreasoner/priors",
        params={"image": uids["current"]},
        json={"query": "?", "prior": "../../etc/passwd"},
    )
    assert path.status_code == 422
    assert "passwd" not in path.text
    missing = client.post(
        "/medreasoner/priors", params={"image": uids["current"]}, json={"prior": uids["before"]}
    )
    assert "question is missing" in missing.json()["detail"]
