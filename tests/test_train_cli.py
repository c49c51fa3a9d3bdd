# SPDX-License-Identifier: Apache-2.0
"""``medreasoner train`` and ``medreasoner models add`` as a user types them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

pytest.importorskip("monailabel")

from medreasoner_infer.models.store import (
    CandidateChangedError,
    CandidateRefusedError,
    Provenance,
    ReasonerStore,
)
from medreasoner_training.finetune import Progress, State
from medreasoner_training.finetune.progress import write_progress
from medreasoner_training.samples import DatasetFolderError
from monailabel_app.cli.app import app
from monailabel_app.training import site
from monailabel_app.training.errors import NothingTrainsError, TrainingStoppedError
from monailabel_app.training.folder import TrainingFolder

FAKE = Path(__file__).with_name("fake_trainer.py")
WAIT_S = 90


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def _exported(monkeypatch, tmp_path):
    """The export has tests of its own; here a run's folder appears with its configuration."""

    def prepare(self, options, tell, run):
        run = run or self.folder.run_folder(options.name, fresh=options.fresh)
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.yaml").write_text(options.config.to_yaml())
        return run

    monkeypatch.setattr(site.SiteTraining, "_prepare", prepare)


def train(tmp_path, mode, *arguments):
    command = f"{sys.executable} {FAKE} {mode}"
    return run("train", "--studies", tmp_path, "--command", command, *arguments)


@pytest.mark.usefixtures("_exported")
@pytest.mark.parametrize(
    ("mode", "status", "words"),
    [
        ("promotes", 0, "Promoted: the new model is live"),
        ("refuses", 3, "Refused by the gate"),
        ("fails", 1, "The loss became NaN."),
    ],
)
def test_the_exit_status_and_the_table_tell_how_the_training_ended(tmp_path, mode, status, words):
    result = train(tmp_path, mode, "--set", "grpo.steps=5")
    assert result.exit_code == status, result.output
    assert words in result.output
    shown = run("train", "--status")
    assert (shown.exit_code, words in shown.output) == (0, True)


@pytest.mark.usefixtures("_exported")
def test_changes_reach_the_configuration_and_a_run_in_a_folder_is_resumed(tmp_path):
    own = tmp_path / "own"
    assert train(tmp_path, "killed", "--run", own, "--set", "grpo.steps=5").exit_code == 1
    assert "steps: 5" in (own / "config.yaml").read_text()
    assert train(tmp_path, "promotes", "--run", own, "--set", "grpo.steps=6").exit_code == 2
    assert train(tmp_path, "promotes", "--run", own, "--fresh").exit_code == 2
    assert train(tmp_path, "promotes", "--run", own).exit_code == 0
    assert [line.split()[1] for line in (own / "starts").read_text().splitlines()] == [
        "new",
        "resumed",
    ]


@pytest.mark.usefixtures("_exported")
def test_a_run_is_watched_on_request_only_and_its_page_is_named(tmp_path):
    own = tmp_path / "own"
    result = train(tmp_path, "killed", "--run", own)
    assert "watch:\n  enabled: false" in (own / "config.yaml").read_text()
    assert "page: file://" not in result.output
    train(tmp_path, "killed", "--run", own, "--watch")
    assert "watch:\n  enabled: true" in (own / "config.yaml").read_text()
    page = own / "watch" / "index.html"
    page.parent.mkdir()
    page.touch()
    result = train(tmp_path, "promotes", "--run", own)
    # Once it is there, and at the end.
    assert result.output.count(f"page: {page.as_uri()}") == 2
    assert page.as_uri() in run("train", "--status").output
    train(tmp_path, "promotes", "--run", tmp_path / "other", "--watch")
    assert "watch:\n  enabled: true" in (tmp_path / "other" / "config.yaml").read_text()


def test_a_stop_before_the_trainer_starts_has_the_exit_status_of_a_stop(tmp_path, monkeypatch):
    def stopped(*_: object) -> None:
        raise TrainingStoppedError("Stopped before the trainer was started.")

    monkeypatch.setattr(site.SiteTraining, "_prepare", stopped)
    result = train(tmp_path, "promotes")
    assert result.exit_code == 4, result.output
    assert "Stopped before the trainer was started." in result.output


def test_nothing_to_show_or_to_stop_is_a_sentence(tmp_path):
    assert isinstance(run("train", "--status").exception, NothingTrainsError)
    stopped = run("train", "--studies", tmp_path, "--stop")
    assert isinstance(stopped.exception, NothingTrainsError)
    assert run("train").exit_code != 0


def test_the_gate_s_reasons_stand_in_the_table(tmp_path, model):
    store = ReasonerStore()
    assert run("models", "add", model, "--name", "site-1").exit_code == 0
    store.refuse("site-1", by="gate", reasons=["Box IoU fell by 0.2."])
    folder = TrainingFolder(tmp_path / ".medreasoner")
    folder.make_latest(folder.root / "runs" / "r")
    write_progress(folder.latest(), Progress(State.REFUSED, candidate="site-1", message="No."))
    output = run("train", "--studies", tmp_path, "--status").output
    assert "Box IoU fell by 0.2." in output
    assert "Box IoU fell by 0.2." in run("models", "history").output


@pytest.mark.slow
def test_ctrl_c_stops_with_a_checkpoint(tmp_path):
    """In a process of its own, as a terminal interrupts it."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "config.yaml").write_text("{}")
    command = [sys.executable, "-m", "monailabel_app.cli", "train", "--studies", str(tmp_path)]
    command += ["--run", str(run_dir), "--command", f"{sys.executable} {FAKE} waits"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
        # Where the tests themselves run in the background, Ctrl-C is ignored, which is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + WAIT_S
    while not (run_dir / "worker").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 4, output
    assert "Stopped on request." in output
    assert json.loads((run_dir / "progress.json").read_text())["state"] == "stopped"


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"weight": np.zeros(4, np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def adapter(tmp_path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file({"weight": np.zeros(4, np.float32)}, folder / "adapter_model.safetensors")
    config = {"base_model_name_or_path": "organisation/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_an_added_adapter_keeps_the_base_that_it_names(adapter):
    result = run("models", "add", adapter, "--name", "theirs", "--seed", 7)
    assert "adapter theirs" in result.output
    candidate = ReasonerStore().candidate("theirs")
    assert (candidate.kind, candidate.provenance.base) == ("adapter", "organisation/base")
    assert candidate.provenance.seed == 7
    assert ReasonerStore().live() is None


def test_an_added_model_is_bound_to_the_weights_of_a_local_base(model):
    assert run("models", "add", model, "--name", "ours", "--base", "embedded").exit_code == 0
    provenance = ReasonerStore().candidate("ours").provenance
    assert provenance.base == "embedded"
    assert len(provenance.base_weights_sha256) == 64


def test_a_candidate_of_a_run_s_own_store_is_taken_with_what_is_told_of_it(model, tmp_path):
    told = Provenance("embedded", "d" * 64, "0.1.0", seed=5, config={"method": "sft"})
    own = ReasonerStore(tmp_path / "run" / "store").add(model, told, name="trained").folder
    assert run("models", "add", own, "--name", "ours").exit_code == 0
    assert run("models", "add", own, "--name", "renamed", "--seed", 6).exit_code == 0
    store = ReasonerStore()
    assert store.candidate("ours").provenance == told
    assert store.candidate("renamed").provenance == dataclasses.replace(told, seed=6)


def test_a_candidate_whose_files_are_others_or_whose_record_is_none_is_refused(model, tmp_path):
    told = Provenance("embedded", "d" * 64, "0.1.0", seed=5)
    own = tmp_path / "copied"
    shutil.copytree(ReasonerStore(tmp_path / "store").add(model, told, name="a").folder, own)
    (own / "note.txt").write_text("added later")
    assert isinstance(run("models", "add", own, "--name", "b").exception, CandidateChangedError)
    (own / "candidate.json").chmod(0o644)
    (own / "candidate.json").write_text("{}")
    result = run("models", "add", own, "--name", "b")
    assert isinstance(result.exception, CandidateRefusedError)
    assert "candidate.json is not what is written of a candidate" in str(result.exception)
    assert ReasonerStore().names() == ()


def test_pickled_weights_and_folders_that_hold_no_data_set_are_refused(model):
    result = run("models", "add", model, "--name", "ours", "--data", model)
    assert isinstance(result.exception, DatasetFolderError)
    (model / "optimizer.pt").write_bytes(b"pickle")
    result = run("models", "add", model, "--name", "ours")
    assert isinstance(result.exception, CandidateRefusedError)
    assert ReasonerStore().names() == ()
