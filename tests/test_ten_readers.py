# SPDX-License-Identifier: Apache-2.0
"""Ten readers at once, each on a study of their own, in a real server with the settings it ships.

A toy pipeline answers with what it sees in the volume, so that an answer tells whose it is.
``benchmarks/ten_readers.py`` does the same with real models and images, and measures.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest
from MedReasonerLib.client import Client, Server, Target
from MedReasonerLib.masks import read_mask

from medreasoner_infer.hooks import Work
from medreasoner_infer.imaging import Plane, slice_mapping
from medreasoner_infer.prompting import SourcedPrompt, record_prompt
from medreasoner_infer.result import InferenceResult, MaskSummary, SliceChoice, SliceRecord
from medreasoner_infer.types import ModelIdentity, SlicePrompt

pytest.importorskip("monailabel")

import monailabel.app
import uvicorn
from monailabel.config import settings
from monailabel.interfaces.utils import app as app_registry

from monailabel_app.app import MedReasonerApp
from monailabel_app.web.routes.install import install_routes

READERS, ROUNDS = 10, 3
WAIT_S = 60
STEP_S = 0.004


class SeeingPipeline:
    """Says word by word which value the volume's brightest voxel has, and marks that voxel."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.at_once = self.most_at_once = 0

    def ask(self, volume, request, hooks):
        brightest = int(volume.array.max())
        with hooks.turn(Work.ANSWER):
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            for word in f"<think>I see {brightest} in {request.query}</think>".split(" "):
                time.sleep(STEP_S)  # others get their turn between two words
                hooks.text(word + " ")
            self.at_once -= 1
        result = self._result(volume, request, brightest)
        hooks.report_answer(result, volume)
        return result

    def _result(self, volume, request, brightest) -> InferenceResult:
        number = next(self._numbers)
        mask = (volume.array == brightest).astype(np.uint8)
        i, j, k = np.argwhere(mask)[0].tolist()
        mapping = slice_mapping(volume, Plane.AXIAL, k)
        sourced = SourcedPrompt(SlicePrompt(None, ((i + 0.5, j + 0.5),), (1,)), None, ("reasoner",))
        model = ModelIdentity("toy", "packaged", None, "ab" * 32, "Apache-2.0")
        return InferenceResult(
            inference_id=f"inference-{number}",
            created_at=f"2026-01-02T03:{number // 60:02d}:{number % 60:02d}.000+00:00",
            kind="ask", query=request.query, reasoning=f"I see {brightest}", completion=None,
            present=True, confidence=None, agreement=None, samples=(),
            prompts=record_prompt(sourced, mapping),
            slice=SliceRecord("axial", k, volume.shape_ijk[2], volume.shape_ijk[1::-1],
                              (1.0, 1.0), (0.0, 0.0, 0.0), "soft", 40.0, 400.0),
            slice_choice=SliceChoice("position", "As asked."), propagated=False, mask_ijk=mask,
            mask=MaskSummary(1, 1.0, 1.0, (k, k), 0.9), modality="CT", reasoner=model,
            segmenter=model, timings_s={"total": 0.1},
        )  # fmt: skip


def brightest_of(number: int) -> int:
    return 1000 + number


def voxel_of(number: int) -> list[int]:
    return [number % 4, number % 3, number % 5]


def write_studies(folder: Path) -> None:
    """Ten volumes, each of a size and with one bright voxel of its own."""
    folder.mkdir()
    for number in range(READERS):
        voxels = np.zeros((5 + number, 4, 5), np.int16)
        voxels[tuple(voxel_of(number))] = brightest_of(number)
        image = nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]))
        nibabel.save(image, folder / f"study-{number}.nii.gz")


@pytest.fixture
def pipeline() -> SeeingPipeline:
    return SeeingPipeline()


@pytest.fixture
def url(monkeypatch, tmp_path: Path, pipeline: SeeingPipeline) -> Iterator[str]:
    """A server in a thread; its sockets and its event loop are real."""
    studies = tmp_path / "studies"
    write_studies(studies)
    for name, value in (
        ("DATASTORE_AUTO_RELOAD", False), ("APP_DIR", str(tmp_path / "app")),
        ("STUDIES", str(studies)),
    ):  # fmt: skip
        monkeypatch.setattr(settings, f"MONAI_LABEL_{name}", value)
    app = MedReasonerApp(str(tmp_path / "app"), str(studies), {}, pipeline=pipeline)
    monkeypatch.setitem(app_registry.apps, f"{tmp_path / 'app'}{studies}", app)
    install_routes(monailabel.app.app)
    config = uvicorn.Config(
        monailabel.app.app, port=0, lifespan="off", log_config=None, log_level="error"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + WAIT_S
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    (listening,) = server.servers[0].sockets
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(WAIT_S)


def ask(url: str, number: int, round_: int) -> list:
    client = Client(Server(url))
    values = {"query": f"question {number}.{round_}", "propagate": False}
    return list(client.ask(Target(f"study-{number}"), values))


def read_by(url: str, number: int) -> list[list]:
    return [ask(url, number, round_) for round_ in range(ROUNDS)]


def test_each_reader_gets_the_answers_about_their_own_study(url, pipeline) -> None:
    with ThreadPoolExecutor(READERS) as pool:
        heard = list(pool.map(read_by, [url] * READERS, range(READERS)))
    inferences = set()
    for number, rounds in enumerate(heard):
        for round_, events in enumerate(rounds):
            by_name = {event.name: event.data for event in events}
            assert "error" not in by_name, by_name["error"]
            text = "".join(event.data["text"] for event in events if event.name == "text")
            assert (
                text.split()
                == f"I see {brightest_of(number)} in question {number}.{round_}".split()
            )
            mask = read_mask(by_name["mask"])
            assert np.argwhere(mask.values_ijk).tolist() == [voxel_of(number)]
            assert mask.grid.shape_ijk == (5 + number, 4, 5)
            inferences.add(by_name["record"]["inference_id"])
        listed = Client(Server(url)).history(f"study-{number}")
        asked = {record["result"]["query"] for record in listed}
        assert asked == {f"question {number}.{round_}" for round_ in range(ROUNDS)}
    assert len(inferences) == READERS * ROUNDS
    assert pipeline.most_at_once == 1, "the device is used by one question at a time"


def test_the_server_answers_everything_else_while_ten_readers_wait(url, pipeline) -> None:
    with ThreadPoolExecutor(READERS) as pool:
        asked = [pool.submit(ask, url, number, 0) for number in range(READERS)]
        served = 0
        while not all(question.done() for question in asked):
            assert httpx.get(f"{url}/info/", timeout=WAIT_S).status_code == 200
            served += not all(question.done() for question in asked)
    assert served > 0
    assert all(question.result()[-1].name == "record" for question in asked)
