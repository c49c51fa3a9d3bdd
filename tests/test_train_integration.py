# SPDX-License-Identifier: Apache-2.0
"""From approved masks to the next answer: the real trainer, started by a real server's route."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

pytest.importorskip("monailabel")
pytest.importorskip("trl")

from medreasoner_infer.models.store import ReasonerStore
from medreasoner_training.experiments.site_shift.datastore import write_site
from medreasoner_training.experiments.site_shift.site import SHIFTED
from monailabel_app.cli.app import app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 1500
QUERY = "Which organ makes bile and fills the right upper abdomen?"
# The way to a decision is tested, not the gate: with this gain and these margins every candidate is
# promoted that answers anything differently, which a step of this rate sees to. Of so many rollouts
# some differ, on every processor, so that there is something to be learnt.
CONFIG = """
tuning: full
data: {image_sizes: refuse, augment: false}
grpo: {steps: 1, prompts_per_step: 4, generations: 8, temperature: 1.3, learning_rate: 1.0e-3,
       warmup_steps: 0, max_completion_tokens: 160}
run: {device: cpu, bf16: false, save_steps: 1, eval_steps: 0}
promotion: {segmenter: null}
gate: {min_patients: 2, gain: -1.0, label_margin: 1.0, absence_margin: 1.0, failure_margin: 1.0,
       resamples: 100}
"""


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[str]:
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        "medreasoner_training.experiments.site_shift.site.Z_RANGE_MM", (280.0, 330.0)
    )
    studies = write_site(tmp_path / "studies", SHIFTED, 0, range(4))
    (studies / ".medreasoner").mkdir()
    # A fixed salt: who validates then does not depend on chance.
    (studies / ".medreasoner" / "export.salt").write_bytes(bytes(range(32)))
    for folder, name, text in (
        ("configs", "tiny.yaml", CONFIG),
        ("app", "main.py", "from monailabel_app.app import MedReasonerApp  # noqa: F401\n"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "monailabel.main", "start_server"]
    command += ["--app", str(tmp_path / "app"), "--studies", str(studies)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--conf", "reasoner", "live"]
    command += ["--conf", "train_configs", str(tmp_path / "configs")]
    with (tmp_path / "log").open("w") as log:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    url = f"http://127.0.0.1:{port}"
    until(lambda: answers(url), process, tmp_path / "log")
    yield url
    process.terminate()
    process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/info/", timeout=60).is_success
    except httpx.TransportError:
        return False


def until(condition, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(1.0)


def who_answers(url: str) -> str:
    params = {"image": "shifted-0000", "output": "json"}
    data = {"params": json.dumps({"query": QUERY, "slice": 2})}
    reply = httpx.post(f"{url}/infer/medreasoner", params=params, data=data, timeout=WAIT_S)
    return reply.json()["medreasoner"]["reasoner"]["name"]


def test_a_promoted_model_answers_the_next_question_of_the_running_server(server, monkeypatch):
    assert who_answers(server) == "embedded"
    body = {"config": "tiny", "val_share": 0.5, "max_slices": 1}
    started = httpx.post(f"{server}/train/medreasoner", json=body, timeout=120)
    assert started.status_code == 200, started.text
    deadline = time.monotonic() + WAIT_S
    status = {"status": "RUNNING", "details": []}
    while status["status"] in {"SUBMITTED", "RUNNING"} and time.monotonic() < deadline:
        time.sleep(2.0)
        status = httpx.get(f"{server}/train/", timeout=120).json()
    assert status["status"] == "DONE", status["details"]
    told = httpx.get(f"{server}/info/", timeout=120).json()["train_stats"]["medreasoner"]
    (event,) = ReasonerStore().history()
    assert (event.action, event.candidate) == ("promoted", told["candidate"])
    assert (told["state"], told["epoch"], told["total_epochs"]) == ("promoted", 1, 1)
    assert who_answers(server) == told["candidate"]
    monkeypatch.setenv("COLUMNS", "200")
    history = CliRunner().invoke(app, ["models", "history"]).output
    assert "promoted" in history
    assert "Box IoU is" in history
