# SPDX-License-Identifier: Apache-2.0
"""The map of agreement of an earlier question: as it was told, and gone with its record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monailabel")

from fastapi.testclient import TestClient
from support.in_process import app_client

from medreasoner_infer.doubt_record import Doubt, NamedReading
from medreasoner_infer.imaging import Plane
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series

READINGS = 8


class Doubting:
    """Doubts an answer where the question is asked several times; the map is drawn by chance."""

    def __init__(self, answered) -> None:
        self._answered = answered
        self.maps: list[np.ndarray] = []

    def ask(self, volume, request, hooks):
        mask = np.zeros(volume.shape_ijk, np.uint8)
        mask[2:5, 1:4, 1:3] = 1
        name = f"inference-{len(self.maps) + 1}"
        result = self._answered(volume, Plane.AXIAL, 2, mask, name=name)
        if request.samples == 1:
            return result
        counts = np.random.default_rng(4).integers(0, READINGS + 1, volume.shape_ijk, np.uint8)
        self.maps.append(counts)
        doubt = Doubt(READINGS, 0.75, (NamedReading("present", "liver", READINGS),))
        return replace(result, doubt=doubt, readings_ijk=counts)


@pytest.fixture
def pipeline(answered) -> Doubting:
    return Doubting(answered)


@pytest.fixture
def client(monkeypatch, tmp_path: Path, pipeline) -> Iterator[TestClient]:
    grid = CtGrid((1, 1, 2), (0, 0, 0), np.eye(3))
    write_ct_series(np.zeros((5, 7, 8)), grid, tmp_path / "studies" / "ct", seed=1)
    with app_client(monkeypatch, tmp_path, pipeline) as opened:
        yield opened


def asked(client, samples: int) -> dict:
    """Ask about the one series; returns the record."""
    (image,) = client.site.studies.list_images()
    params = {"params": json.dumps({"query": "Which organ?", "samples": samples})}
    client.post(f"/infer/medreasoner?image={image}&output=json", data=params).raise_for_status()
    return client.get("/medreasoner/inferences", params={"image": image}).json()[0]


def test_the_map_of_an_earlier_question_is_the_one_that_was_told(client, pipeline) -> None:
    record = asked(client, 3)
    assert record["doubt_map_kept"]
    told = client.get(f"/medreasoner/doubts/{record['inference_id']}").json()
    values = np.repeat(told["counts"], told["runs"]).reshape(told["shape_ijk"], order="F")
    np.testing.assert_array_equal(values, pipeline.maps[0])
    assert (told["readings"], told["agreement"]) == (READINGS, 0.75)
    mask = client.get(f"/medreasoner/masks/{record['inference_id']}").json()
    assert told["ijk_to_lps"] == mask["ijk_to_lps"]


def test_with_the_study_the_map_goes(client) -> None:
    record = asked(client, 3)
    kept = client.site.records.get(record["inference_id"]).doubt_file
    assert kept.is_file()
    client.delete("/medreasoner/inferences", params={"study": record["study_uid"]})
    assert not kept.exists()
    assert client.get(f"/medreasoner/doubts/{record['inference_id']}").status_code == 404


def test_of_a_question_asked_once_there_is_no_map(client) -> None:
    record = asked(client, 1)
    assert not record["doubt_map_kept"]
    reply = client.get(f"/medreasoner/doubts/{record['inference_id']}")
    assert reply.status_code == 404
    assert "ask again" in reply.json()["detail"]
