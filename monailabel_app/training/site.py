# SPDX-License-Identifier: Apache-2.0
"""A whole training at a site: export, a run's folder, the trainer; the same for every caller."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.errors import MedReasonerError
from medreasoner_training.finetune import (
    CONFIG_FILE,
    FineTuneConfig,
    Progress,
    State,
)
from medreasoner_training.finetune.expectation import expected_power, store_of
from medreasoner_training.finetune.identity import what_is_learnt
from medreasoner_training.finetune.progress import clear_stop, stop_requested, write_progress
from medreasoner_training.finetune.record import read_record
from medreasoner_training.samples import TRAIN, VALIDATION, SampleDataset
from monailabel_app.training.data_set import (
    export_data_set,
    export_settings,
    remove_unfinished,
    require_held_out,
)
from monailabel_app.training.errors import TrainerFailedError, TrainingStoppedError
from monailabel_app.training.folder import TrainingFolder
from monailabel_app.training.lock import HeldLock
from monailabel_app.training.options import TrainOptions
from monailabel_app.training.trainer import OnProgress, Trainer

_KEY_DIGITS = 10
_TELL_EVERY_S = 2.0
_DISK_FULL = "The disk is full. Free some space and start the training again; nothing is lost."


@dataclass(frozen=True)
class SiteTraining:
    """Trains on what the readers of ``studies`` approved.

    Attributes:
        studies: folder of studies, or the address of a DICOMweb server.
        folder: of the site's trainings.
        command: of :func:`monailabel_app.training.trainer.trainer_command`.
    """

    studies: str
    folder: TrainingFolder
    command: Sequence[str]

    def train(self, options: TrainOptions, tell: OnProgress, run: Path | None = None) -> Progress:
        """Export, then train to the end, or on where an unfinished run on the same data stopped.

        Args:
            options: what to train.
            tell: is given everything that is new, from the calling thread.
            run: an empty folder for a new run instead of one below ``folder``.

        Returns:
            How the run ended.

        Raises:
            TrainingRunsError: a training runs already.
            TrainingStoppedError: somebody stopped it before the trainer was started.
            TrainerFailedError: the disk is full.
            MedReasonerError: the approved labels or the options do not suffice.
        """
        with self.folder.lock.held(self.folder.preparing) as held:
            with self._telling_faults():
                run = self._prepare(options, tell, run)
                held.move(run)
            return self._run(run, held, tell)

    def resume(self, run: Path, tell: OnProgress) -> Progress:
        """Go on with the run in that folder, with the configuration and data that it has.

        Raises:
            TrainingRunsError: a training runs already.
        """
        with self.folder.lock.held(run) as held:
            return self._run(run, held, tell)

    def _run(self, run: Path, held: HeldLock, tell: OnProgress) -> Progress:
        self.folder.make_latest(run)
        return Trainer(self.command, run, held).follow(tell)

    def _prepare(self, options: TrainOptions, tell: OnProgress, run: Path | None) -> Path:
        data_set = self._export(options, tell)
        if run is None:
            name = f"{options.name}-{run_key(options.config, data_set)}"
            run = self.folder.run_folder(name, fresh=options.fresh)
        resumes = (run / CONFIG_FILE).is_file()
        write_config(run, options.config, data_set)
        tell(Progress(State.PREPARING, message=_run_sentence(run, resumes, data_set, options)))
        return run

    def _export(self, options: TrainOptions, tell: OnProgress) -> SampleDataset:
        folder = self.folder
        remove_unfinished(folder.datasets)
        data_set = export_data_set(
            self.studies,
            folder.datasets,
            export_settings(options.config, options.val_share, options.max_slices),
            data_dir=folder.data_dir,
            progress=self._export_progress(tell),
        )
        require_held_out(data_set, options.config)
        self._raise_if_stopped()
        return data_set

    def _export_progress(self, tell: OnProgress) -> Callable[[int, int], None]:
        next_s = 0.0

        def report(done: int, total: int) -> None:
            """Tell progress now and then; the place where a stop is noticed."""
            nonlocal next_s
            self._raise_if_stopped()
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + _TELL_EVERY_S
                progress = Progress(
                    State.PREPARING, message=f"Exporting approved labels, {done} of {total}."
                )
                write_progress(self.folder.preparing, progress)
                tell(progress)

        return report

    def _raise_if_stopped(self) -> None:
        if stop_requested(self.folder.preparing):
            raise TrainingStoppedError("Stopped on request, before the trainer was started.")

    @contextlib.contextmanager
    def _telling_faults(self) -> Iterator[None]:
        """What goes wrong before the run has a folder is told in ``preparing``."""
        preparing = self.folder.preparing
        self.folder.make_latest(preparing)
        clear_stop(preparing)
        write_progress(preparing, Progress(State.PREPARING, message="Reading approved labels."))
        try:
            yield
        except TrainingStoppedError as error:
            self._tell_end(State.STOPPED, error)
            raise
        except MedReasonerError as error:
            self._tell_end(State.FAILED, error)
            raise
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            fault = TrainerFailedError(_DISK_FULL)
            self._tell_end(State.FAILED, fault)
            raise fault from error

    def _tell_end(self, state: State, error: MedReasonerError) -> None:
        # On a full disk there may be no room for this file either; the caller still gets the error.
        with contextlib.suppress(OSError):
            write_progress(self.folder.preparing, Progress(state, message=str(error)))


def write_config(run: Path, config: FineTuneConfig, data_set: SampleDataset) -> None:
    """Make a run's folder with its configuration; the data set's path counts from the folder."""
    run.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = os.path.relpath(data_set.folder, run)
    write_durably(run / CONFIG_FILE, _with_data(config, folder).to_yaml())


def run_key(config: FineTuneConfig, data_set: SampleDataset) -> str:
    """Names what a run learns: data and configuration, but not how much memory a step may take,
    nor what is shown of it.

    A run that ran out of memory thus goes on with other settings of this kind, which the trainer
    accepts as well.
    """
    learnt = what_is_learnt(_with_data(config, data_set.folder.name).to_dict())
    text = json.dumps(learnt, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def _with_data(config: FineTuneConfig, data_folder: str) -> FineTuneConfig:
    return replace(config, data=replace(config.data, folder=data_folder))


def _run_sentence(run: Path, resumes: bool, data_set: SampleDataset, options: TrainOptions) -> str:
    splits = data_set.manifest.splits
    rows, patients = splits[TRAIN].rows, splits[TRAIN].patients
    record = read_record(run)
    power = expected_power(
        store_of(options.config, run),
        options.config,
        splits[VALIDATION].patients,
        None if record is None else record.fingerprint,
    )
    notes = "".join(
        f" Of {each.count} image(s): {each.reason}." for each in data_set.manifest.notes
    )
    return (
        f"{'Going on with' if resumes else 'New'} run {run.name}: {rows} samples of {patients} "
        f"patients. {power.sentence}{notes}"
    )
