# SPDX-License-Identifier: Apache-2.0
"""``POST /train/medreasoner``: MONAI Label's train task."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medreasoner_infer.errors import MedReasonerError
from medreasoner_infer.models.registry import LIVE
from medreasoner_training.finetune import Progress, State
from monailabel_app.framework import Datastore, TrainTask
from monailabel_app.settings import AppSettings
from monailabel_app.site.paths import SitePaths
from monailabel_app.training.background import BackgroundTraining
from monailabel_app.training.errors import TrainerFailedError, TrainingStoppedError
from monailabel_app.training.folder import TrainingFolder
from monailabel_app.training.options import (
    TrainOptions,
    known_configs,
    read_options,
    viewer_options,
)
from monailabel_app.training.reporting import progress_line, stats
from monailabel_app.training.site import SiteTraining
from monailabel_app.training.trainer import trainer_command

NOT_LIVE = (
    "This server does not answer with the live model; start it with --reasoner live to have "
    "promoted ones answer."
)


class ReasonerTrainTask(TrainTask):
    """Fine-tunes the reasoner on the masks that readers approved."""

    def __init__(
        self,
        training: SiteTraining,
        configs: Mapping[str, Path],
        background: BackgroundTraining,
        *,
        answers_live: bool,
    ) -> None:
        super().__init__("Fine-tune the reasoner on what readers approved; a gate compares it.")
        self.training = training
        self.background = background
        self._configs = configs
        self._answers_live = answers_live

    def config(self) -> dict[str, Any]:
        """The options, as viewers show them."""
        return viewer_options(self._configs)

    def options(self, request: Mapping[str, Any]) -> TrainOptions:
        """The checked options of a request.

        Raises:
            InputError: one of them cannot be used.
        """
        return read_options(request, self._configs)

    def stats(self) -> dict[str, Any]:
        """What the latest training told, also one of the command line or of an earlier server."""
        try:
            return stats(self.training.folder.progress())
        except MedReasonerError as error:
            # MONAI Label asks for this in every /info, which a damaged file must not take down.
            return stats(Progress(State.FAILED, message=str(error)))

    def __call__(self, request: Mapping[str, Any], datastore: Datastore | None) -> dict[str, Any]:
        """Train in this process' child; each line on standard output tells what is new.

        Raises:
            InputError: an option, or what was approved, cannot be used.
            TrainingRunsError: a training runs already.
            TrainerFailedError: the trainer failed; its sentence is the message.
        """
        try:
            last = self.training.train(self.options(request), say)
        except TrainingStoppedError as error:
            last = Progress(State.STOPPED, message=str(error))
            say(last)
        if last.state is State.FAILED:
            raise TrainerFailedError(last.message)
        if last.state is State.PROMOTED and not self._answers_live:
            _print(NOT_LIVE)
        return stats(last)


def make_train_task(paths: SitePaths, settings: AppSettings) -> ReasonerTrainTask:
    """The task of a site with these settings.

    Raises:
        InputError: ``train_command`` is no command line.
    """
    command = trainer_command(settings.train_command)
    # The process that trains runs in another folder.
    studies = paths.studies if paths.is_pacs else str(Path(paths.studies).absolute())
    training = SiteTraining(studies, TrainingFolder(paths.data_dir), command)
    configs = known_configs(settings.train_configs)
    background = BackgroundTraining(
        training.folder,
        studies,
        {
            "studies": studies,
            "data_dir": str(training.folder.data_dir),
            "train_command": settings.train_command,
            "train_configs": _text(settings.train_configs),
            "reasoner": settings.reasoner,
        },
    )
    answers_live = settings.reasoner == LIVE
    return ReasonerTrainTask(training, configs, background, answers_live=answers_live)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def say(progress: Progress) -> None:
    """Print one line, which ``GET /train/`` shows."""
    _print(progress_line(progress))


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        # The server was killed; the training goes on, and its folder tells of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
