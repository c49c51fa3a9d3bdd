# SPDX-License-Identifier: Apache-2.0
"""``/train`` of MONAI Label's own server, with a trainer that is not the real one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

pytest.importorskip("monailabel")

import httpx
import monailabel.app
from fastapi.testclient import TestClient
from monailabel.config import settings
from monailabel.interfaces.utils import app as app_registry

from medreasoner_training.experiments.site_shift.datastore import write_site
from medreasoner_training.experiments.site_shift.site import SHIFTED
from medreasoner_training.finetune import Progress, State
from medreasoner_training.finetune.progress import write_progress
from monailabel_app.app import MedReasonerApp

ROOT = Path(__file__).resolve().parents[1]
FAKE = Path(__file__).with_name("fake_trainer.py")
WAIT_S = 900


@pytest.fixture
def app(monkeypatch, tmp_path) -> MedReasonerApp:
    studies = tmp_path / "studies"
    studies.mkdir()
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    monkeypatch.setattr(settings, "MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
    monkeypatch.setattr(settings, "MONAI_LABEL_APP_DIR", str(tmp_path / "app"))
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", str(studies))
    app = MedReasonerApp(str(tmp_path / "app"), str(studies), {}, pipeline=object())
    monkeypatch.setitem(app_registry.apps, f"{tmp_path / 'app'}{studies}", app)
    return app


@pytest.fixture
def client(app) -> TestClient:
    return TestClient(monailabel.app.app, raise_server_exceptions=False)


@pytest.fixture
def started(app, monkeypatch) -> list[dict]:
    """What would be given to the training process."""
    calls: list[dict] = []

    def start(options):
        calls.append(dict(options))
        return SimpleNamespace(to_dict=lambda: {"id": "1", "status": "RUNNING"})

    monkeypatch.setattr(app._trainers["medreasoner"].background, "start", start)
    return calls


def test_viewers_are_shown_the_options_and_the_last_training(app, client):
    info = client.get("/info/").json()
    assert info["trainers"]["medreasoner"]["config"]["config"][0] == "embedded"
    assert info["train_stats"]["medreasoner"] == {}
    folder = app._trainers["medreasoner"].training.folder
    folder.make_latest(folder.root / "runs" / "r")
    write_progress(folder.latest(), Progress(State.PROMOTED, 9, 9, best_iou=0.6, candidate="c"))
    told = client.get("/info/").json()["train_stats"]["medreasoner"]
    assert (told["epoch"], told["best_metric"], told["candidate"]) == (9, 0.6, "c")
    (folder.root / "lock.json").write_text("torn")
    damaged = client.get("/info/")
    assert damaged.status_code == 200
    assert "lock.json cannot be read" in damaged.json()["train_stats"]["medreasoner"]["message"]


def test_slicer_and_ohif_start_a_training_each_in_its_way(client, started):
    options = {"config": "embedded", "steps": "5"}
    assert client.post("/train/medreasoner", json=options).status_code == 200
    assert client.post("/train/", json={"medreasoner": options}).status_code == 200
    assert started == [options] * 2


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/train/medreasoner", {"steps": "many"}, 422, "whole number"),
        ("/train/medreasoner", {"gate.gain": 1}, 422, "no option of training"),
        ("/train/medreasoner?run_sync=true", {}, 422, "run_sync"),
        ("/train/medreasoner_click", {}, 404, "medreasoner"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_starts(
    client, started, path, body, status, words
):
    answer = client.post(path, json=body)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert started == []


def test_a_training_that_another_process_runs_is_seen_and_refuses_a_second_one(
    app, client, started
):
    for call in (client.get, client.delete):
        answer = call("/train/")
        assert answer.status_code == 404
        assert "No training runs" in answer.json()["detail"]
    folder = app._trainers["medreasoner"].training.folder
    run = folder.root / "runs" / "r"
    with folder.lock.held(run):
        folder.make_latest(run)
        write_progress(run, Progress(State.TRAINING, 2, 8))
        refused = client.post("/train/medreasoner", json={})
        assert refused.status_code == 409
        assert str(os.getpid()) in refused.json()["detail"]
        shown = client.get("/train/", params={"check_if_running": True}).json()
        assert (shown["status"], "step 2 of 8" in shown["details"][0]) == ("RUNNING", True)
    assert started == []


# From here on: real servers, whose training process builds the whole app.


class RealServer:
    def __init__(self, folder: Path, mode: str) -> None:
        self.folder, self.mode = folder, mode
        self.studies = write_site(folder / "studies", SHIFTED, 0, range(4))
        (self.studies / ".medreasoner").mkdir()
        # A fixed salt: who validates then does not depend on chance.
        (self.studies / ".medreasoner" / "export.salt").write_bytes(bytes(range(32)))
        configs = folder / "configs"
        configs.mkdir()
        (configs / "tiny.yaml").write_text("gate: {min_patients: 2}\n")
        (folder / "app").mkdir()
        (folder / "app" / "main.py").write_text(
            "from monailabel_app.app import MedReasonerApp  # noqa: F401\n"
        )
        self.process: subprocess.Popen | None = None
        self.url = ""

    def start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "monailabel.main", "start_server"]
        command += ["--app", str(self.folder / "app"), "--studies", str(self.studies)]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        command += ["--conf", "train_command", f"{sys.executable} {FAKE} {self.mode}"]
        command += ["--conf", "train_configs", str(self.folder / "configs")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment |= {"MEDREASONER_HOME": str(self.folder / "home")}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.until(self.answers)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/info/", timeout=60).is_success
        except httpx.TransportError:
            return False

    def until(self, condition) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            log = (self.folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, log
            assert self.process.poll() is None, log
            time.sleep(1.0)

    def train(self) -> httpx.Response:
        options = {"config": "tiny", "val_share": 0.5, "max_slices": 2}
        return httpx.post(f"{self.url}/train/medreasoner", json=options, timeout=60)

    def status(self) -> dict:
        return httpx.get(f"{self.url}/train/", timeout=60).json()

    def stats(self) -> dict:
        info = httpx.get(f"{self.url}/info/", timeout=60).json()
        return info["train_stats"]["medreasoner"]

    def stop(self) -> dict:
        return httpx.delete(f"{self.url}/train/", timeout=WAIT_S).json()

    @property
    def run(self) -> Path | None:
        return next(self.studies.glob(".medreasoner/training/runs/*"), None)

    @property
    def works(self) -> bool:
        return self.run is not None and (self.run / "worker").exists()

    def worker_runs(self) -> bool:
        pid = int((self.run / "worker").read_text())
        return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def real_server(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "medreasoner_training.experiments.site_shift.site.Z_RANGE_MM", (280.0, 330.0)
    )
    server = RealServer(tmp_path, "waits")
    server.start()
    yield server
    server.process.kill()
    server.process.wait()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_training_is_watched_stopped_resumed_and_survives_its_server(real_server):
    server = real_server
    assert server.train().status_code == 200
    server.until(lambda: server.works)
    assert server.train().status_code in {409, 429}
    server.until(lambda: server.stats().get("state") == "training")
    server.until(lambda: any("step 3 of 4" in line for line in server.status()["details"]))
    assert server.stop()["status"] == "STOPPED"
    assert not server.worker_runs()
    assert server.stats()["state"] == "stopped"
    assert server.status()["status"] == "STOPPED"

    (server.run / "worker").unlink()
    assert server.train().status_code == 200
    server.until(lambda: server.works)
    server.process.kill()
    server.process.wait()
    server.start()
    assert server.worker_runs()
    assert server.train().status_code == 409
    assert server.status()["status"] == "RUNNING"
    assert server.stop()["status"] == "STOPPED"
    assert not server.worker_runs()
    starts = (server.run / "starts").read_text().splitlines()
    assert [line.split()[1] for line in starts] == ["new", "resumed"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_too_few_labels_are_a_sentence_of_the_route(real_server):
    server = real_server
    store = json.loads((server.studies / "datastore_v2.json").read_text())
    for entry in list(store["objects"].values())[1:]:
        entry["labels"] = {}
    (server.studies / "datastore_v2.json").write_text(json.dumps(store))
    for label in list((server.studies / "labels" / "final").iterdir())[1:]:
        label.unlink()
    assert server.train().status_code == 200
    server.until(lambda: server.status()["status"] == "ERROR")
    assert any("come from 1 patient(s)" in line for line in server.status()["details"])
    assert "come from 1 patient(s)" in server.stats()["message"]
