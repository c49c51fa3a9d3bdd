# SPDX-License-Identifier: Apache-2.0
"""Where the figures of each logged step go: TensorBoard, MLflow or Weights & Biases.

The two trackers are given numbers by name and step, and the candidate's name and the stage as the
name of the run: no setting, no path, no text and no picture. The callbacks of transformers would
send the arguments of the training, with its folders, as well.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import util
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medreasoner_infer.atomic import write_durably
from medreasoner_training.finetune.errors import TrackerMissingError
from medreasoner_training.finetune.settings import ReportTo, RunSettings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PROJECT = "medreasoner"
_TRACKERS = (ReportTo.mlflow, ReportTo.wandb)
_RUN_ID = "mlflow_run"
logger = logging.getLogger(__name__)


def require_tracker(run: RunSettings) -> None:
    """Refuse a tracker that is not installed.

    Raises:
        TrackerMissingError: in that case.
    """
    package = run.report_to.value
    if run.report_to in _TRACKERS and util.find_spec(package) is None:
        raise TrackerMissingError(
            f"run.report_to is {package}, but the trainer's environment has no package {package}. "
            f"Install it there (pip install {package}), or set tensorboard or none."
        )


class Tracker(Protocol):
    """Takes figures."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take the figures of a step."""

    def close(self) -> None:
        """The stage has ended."""


@dataclass(frozen=True)
class Reported:
    """A stage's figures.

    Attributes:
        run_dir: folder of the run.
        folder: of the stage.
        name: of the candidate and the stage.
    """

    run_dir: Path
    folder: Path
    name: str

    def tracker(self, to: ReportTo) -> Tracker | None:
        """Opens it, if there is one."""
        if to is ReportTo.mlflow:
            return MlflowRun(self)
        return WandbRun(self) if to is ReportTo.wandb else None


class MlflowRun:
    """A run of MLflow: in ``mlflow.db`` of the run's folder, or where ``MLFLOW_TRACKING_URI`` says.

    A resumed stage goes on with its run. What the server does not take is left out, and the log
    says so once: no training is lost for a curve.
    """

    def __init__(self, reported: Reported) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported
        from mlflow import MlflowClient

        own = f"sqlite:///{reported.run_dir / 'mlflow.db'}"
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", own))
        self._run_id = self._taken_up(reported) or self._begun(reported)
        self._has_warned = False

    def _taken_up(self, reported: Reported) -> str | None:
        from mlflow.exceptions import MlflowException

        noted = reported.folder / _RUN_ID
        try:
            run_id = noted.read_text(encoding="utf-8")
            self._client.update_run(run_id, status="RUNNING")
        except (FileNotFoundError, MlflowException):
            return None
        return run_id

    def _begun(self, reported: Reported) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        run_id: str = self._client.create_run(experiment, run_name=reported.name).info.run_id
        write_durably(reported.folder / _RUN_ID, run_id)
        return run_id

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take the figures of a step."""
        from mlflow.exceptions import MlflowException

        try:
            for name, value in figures.items():
                self._client.log_metric(self._run_id, name, value, step=step)
        except MlflowException as error:
            if not self._has_warned:
                logger.warning("MLflow takes no figures (%s).", type(error).__name__)
            self._has_warned = True

    def close(self) -> None:
        """The stage has ended."""
        self._client.set_terminated(self._run_id)


class WandbRun:
    """A run of Weights & Biases, in the project that ``WANDB_PROJECT`` names.

    All that it would collect by itself is switched off: output, code, git, machine, packages.
    """

    def __init__(self, reported: Reported) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=reported.name,
            dir=str(reported.folder),
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                save_code=False,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take the figures of a step."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """The stage has ended."""
        self._run.finish()


class Tracking(TrainerCallback):
    """Gives the numbers of a trainer's log to a tracker, in the main process only."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Give what is a finite number."""
        self._tracker.log(numbers_of(logs or {}), state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """End the tracker's run."""
        self._tracker.close()


def numbers_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a log; texts and all else stay here."""
    numbers = {name: float(value) for name, value in logs.items() if isinstance(value, Real)}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def tensorboard_writer(run_dir: Path, stage_title: str) -> SummaryWriter:
    """Writes curves into ``RUN_DIR/tensorboard/STAGE``."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run_dir / "tensorboard" / stage_title))
