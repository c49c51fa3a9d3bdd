# SPDX-License-Identifier: Apache-2.0
"""Reading and checking everything that a run needs, before anything is trained."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.models.store import CandidateRefusedError, ReasonerStore
from medreasoner_infer.models.store.history import utc_now
from medreasoner_training.finetune.arguments import require_rollout_device
from medreasoner_training.finetune.config import CONFIG_FILE, FineTuneConfig, read_config
from medreasoner_training.finetune.errors import NoValidationError
from medreasoner_training.finetune.expectation import expected_power, store_of
from medreasoner_training.finetune.held_apart import apart_from
from medreasoner_training.finetune.record import (
    RunRecord,
    read_record,
    require_same,
    write_record,
)
from medreasoner_training.finetune.replay import former_rows, with_replay
from medreasoner_training.finetune.reporting import require_tracker
from medreasoner_training.finetune.settings import Method, ModelSettings, Tuning
from medreasoner_training.finetune.stage import Stage, is_main_process
from medreasoner_training.finetune.tunable import TunableReasoner, locate_reasoner
from medreasoner_training.gate import Power
from medreasoner_training.rewards import read_truth
from medreasoner_training.samples import TRAIN, VALIDATION, SampleDataset, open_dataset

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Prepared:
    """Everything that was checked before training.

    Attributes:
        run_dir: the run's folder.
        config: its settings.
        store: where the candidate will go.
        record: the run's identity.
        start: the reasoner to be tuned.
        training: rows to learn from, replayed ones included.
        validation: rows of patients that are not learnt from.
        power: what the comparison on them will be able to show.
        former: such rows of the site that is replayed, if one is.
    """

    run_dir: Path
    config: FineTuneConfig
    store: ReasonerStore
    record: RunRecord
    start: TunableReasoner
    training: Dataset
    validation: Dataset
    power: Power
    former: Dataset | None = None

    def for_training(self, training: int) -> Prepared:
        """The same with the seed of one of the run's trainings, which are counted from 0."""
        run = dataclasses.replace(self.config.run, seed=self.config.run.seed + training)
        return dataclasses.replace(self, config=dataclasses.replace(self.config, run=run))


def prepare(run_dir: Path) -> Prepared:
    """Read and check everything that training needs, and begin or take up the run's record.

    Raises:
        FineTuneConfigError, RunChangedError: the settings mean nothing, or are not the run's.
        TrackerMissingError: figures are to go to a tracker that is not installed.
        DatasetFolderError, DatasetChangedError: the data set cannot be used.
        NoValidationError: too few patients are held out for a decision.
        CandidateRefusedError: the store holds a candidate of that name from another run.
        TooFewSamplesError: every training sample shows a held-out image.
        ModelUnavailableError, UnknownModelError: there is no such model.
    """
    config = read_config(run_dir / CONFIG_FILE)
    require_rollout_device(config)
    require_tracker(config.run)
    store = store_of(config, run_dir)
    data = open_dataset(run_dir / config.data.folder)
    validation = validation_rows(data, config)
    record = read_record(run_dir)
    model = config.model if record is None else ModelSettings(record.parent or record.base)
    start = locate_reasoner(model, store)
    if record is None:
        _require_free_name(config, store)
        record = _new_record(config, data, start)
        if is_main_process():
            write_record(run_dir, record)
    require_same(record, config.to_dict(), data.manifest_sha256)
    if config.tuning is Tuning.full and start.adapter is not None:
        start = _merged(start, run_dir)
    size = start.settings.input_size
    learnt = apart_from(validation, data.load(TRAIN))
    training = with_replay(learnt, config.data, run_dir, size, config.prompts)
    if config.method is Method.grpo and config.rewards.as_released:
        training = _with_target(training)
    former = former_rows(config.data, run_dir, size)
    patients = patients_with_target(validation)
    power = expected_power(store, config, patients, record.fingerprint)
    return Prepared(run_dir, config, store, record, start, training, validation, power, former)


def plan(prepared: Prepared) -> tuple[tuple[Stage, ...], ...]:
    """The stages of each training of a run, in their order."""
    config = prepared.config
    steps = {"sft": config.sft.steps} if config.sft.steps else {}
    if config.method is Method.grpo:
        steps["grpo"] = config.grpo.steps_for(len(prepared.training))
    done, trainings = 0, []
    for training in range(config.run.trainings):
        stages = []
        for name, count in steps.items():
            stage = Stage(name, prepared.run_dir, count, done, training)
            stages.append(dataclasses.replace(stage, folder=prepared.run_dir / stage.title))
            done += count
        trainings.append(tuple(stages))
    return tuple(trainings)


def _new_record(config: FineTuneConfig, data: SampleDataset, start: TunableReasoner) -> RunRecord:
    moment = utc_now()[:19].replace(":", "").lower()
    name = config.promotion.name or f"{moment}-{uuid.uuid4().hex[:8]}"
    return RunRecord(name, start.base, start.parent, config.to_dict(), data.manifest_sha256)


def validation_rows(data: SampleDataset, config: FineTuneConfig) -> Dataset:
    """The rows that a candidate is compared on.

    Raises:
        NoValidationError: too few patients are held out for a decision.
    """
    counts = data.manifest.splits.get(VALIDATION)
    if counts is None or not counts.rows:
        raise NoValidationError(
            "The data set has no validation patients, so no candidate could be compared. Export "
            "again with a validation share above 0."
        )
    rows, least = data.load(VALIDATION), config.gate.min_patients
    patients = patients_with_target(rows)
    if patients < least:
        raise NoValidationError(
            f"The validation split shows targets of {patients} patients; the gate decides on "
            f"{least} or more. Approve labels of more patients, export with a larger validation "
            "share, or lower gate.min_patients, which widens the uncertainty."
        )
    return rows


def patients_with_target(rows: Dataset) -> int:
    """Of how many patients a row shows its target; the primary metric is of these."""
    info = rows["extra_info"]
    return len(np.unique([each["patient_key"] for each in info if each["present"]]))


def _require_free_name(config: FineTuneConfig, store: ReasonerStore) -> None:
    """A new run's candidate is none that the store holds, or that one would be promoted for it."""
    name = config.promotion.name
    if name in store.names():
        raise CandidateRefusedError(
            f"The store holds a candidate {name!r} of another run, and candidates never change. "
            "Give another promotion.name, or null for one of its own."
        )


def _with_target(rows: Dataset) -> Dataset:
    """The rows whose target is present; the rewards as released score no others."""
    truths = [read_truth(each["ground_truth"]) for each in rows["reward_model"]]
    return rows.select([row for row, truth in enumerate(truths) if truth.target is not None])


def _merged(start: TunableReasoner, run_dir: Path) -> TunableReasoner:
    """Full tuning changes all weights, so an adapter becomes part of them first."""
    from filelock import FileLock

    from medreasoner_training.finetune.merge import merge_adapter

    folder = run_dir / "start"
    with FileLock(run_dir / ".start.lock"):  # all processes of a run come here, one merges
        if start.adapter is not None and not folder.is_dir():
            merge_adapter(start.adapter, folder, base=start.base)
    return dataclasses.replace(start, folder=folder, adapter=None)
