# SPDX-License-Identifier: Apache-2.0
"""Where the figures of a run go, and that nothing but figures does."""

from __future__ import annotations

import socket
import sqlite3
from importlib import util

import pytest

pytest.importorskip("transformers")

from support.runs import make_run_folder
from transformers import TrainerControl, TrainerState

from medreasoner_training.finetune import State, config_from_dict, read_progress
from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.reporting import Reported, Tracking
from medreasoner_training.finetune.run import ExitCode, run
from medreasoner_training.finetune.settings import ReportTo

CONTROL = TrainerControl()
LOGS = {"reward": 1.5, "loss": float("nan"), "completion": "Mrs Doe", "epoch": 1}


def test_tensorboard_is_the_default_and_others_are_refused_by_name():
    assert config_from_dict({}).run.report_to is ReportTo.tensorboard
    with pytest.raises(FineTuneConfigError, match=r"run\.report_to.*none, tensorboard, mlflow"):
        config_from_dict({"run": {"report_to": "all"}})


@pytest.mark.skipif(util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_tracker_that_is_not_installed_ends_the_run_with_a_sentence(tmp_path):
    folder = make_run_folder(tmp_path, "run", "run: {report_to: wandb, device: cpu}")
    assert run(folder) is ExitCode.FAILED
    progress = read_progress(folder)
    assert progress.state is State.FAILED
    assert "run.report_to is wandb" in progress.message
    assert "pip install wandb" in progress.message


@pytest.fixture
def _no_network(monkeypatch):
    def refused(*_: object) -> None:
        raise AssertionError("something was to be sent")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def texts_in(database) -> str:
    with sqlite3.connect(database) as opened:
        return "\n".join(opened.iterdump())


@pytest.mark.usefixtures("_no_network")
def test_mlflow_gets_numbers_only_into_the_run_s_folder_and_goes_on_after_a_kill(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    (tmp_path / "grpo").mkdir()
    reported = Reported(tmp_path, tmp_path / "grpo", "tuned grpo")
    for step in (1, 2):  # a new process takes the same run up
        tracking = Tracking(reported.tracker(ReportTo.mlflow))
        tracking.on_log(None, TrainerState(global_step=step), CONTROL, logs=LOGS)
    tracking.on_train_end(None, TrainerState(global_step=2), CONTROL)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("medreasoner")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.metrics == {"reward": 1.5, "epoch": 1.0}
    assert [each.step for each in client.get_metric_history(found.info.run_id, "reward")] == [1, 2]
    assert found.data.params == {}
    assert found.data.tags == {"mlflow.runName": "tuned grpo"}
    assert "Mrs Doe" not in texts_in(tmp_path / "mlflow.db")


def test_none_opens_no_tracker(tmp_path):
    assert Reported(tmp_path, tmp_path, "tuned").tracker(ReportTo.none) is None
