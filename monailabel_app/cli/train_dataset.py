# SPDX-License-Identifier: Apache-2.0
"""``medreasoner train --dataset``: SFT and GRPO on any data set, without studies or a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from medreasoner_infer.models.store import ReasonerStore
    from medreasoner_training.finetune import FineTuneConfig, Progress
    from medreasoner_training.samples import SampleDataset

DATA_FOLDER, STORE_FOLDER = "dataset", "store"


@dataclass(frozen=True)
class DatasetTraining:
    """A training on a data set.

    Attributes:
        data: what is learnt from, as ``medreasoner evaluate`` takes it.
        run: folder of the run.
        questions: table of questions about the data set's images.
        split: to learn from.
        val_share: share of the patients that validate, where the data set has no such split.
    """

    data: str
    run: Path
    questions: Path | None = None
    split: str | None = None
    val_share: float = 0.2

    @property
    def is_begun(self) -> bool:
        """Whether the run's folder holds a run that can be gone on with."""
        from medreasoner_training.finetune import CONFIG_FILE

        return (self.run / CONFIG_FILE).is_file()

    def begin(self, config: FineTuneConfig, on_row: Callable[[int, int], None]) -> SampleDataset:
        """Write the run's data set, then its configuration; what is there already must be the same.

        Raises:
            MedReasonerError: the data, the model or the options cannot be used.
        """
        from medreasoner_infer.atomic import write_durably
        from medreasoner_training.finetune import CONFIG_FILE, read_config
        from medreasoner_training.finetune.tunable import locate_reasoner
        from medreasoner_training.learning import LearningSettings, learning_set, require_same_data
        from medreasoner_training.samples import open_dataset

        path, out = self.run / CONFIG_FILE, self.run / DATA_FOLDER
        own = read_config(path) if self.is_begun else own_config(config)
        start = locate_reasoner(own.model, self.store)
        settings = LearningSettings(start.settings.input_size, self.val_share, self.split)
        if out.is_dir():
            found = open_dataset(out)
            require_same_data(found, self.data, settings, self.questions)
        else:
            found = learning_set(self.data, out, settings, questions=self.questions, on_row=on_row)
        if not self.is_begun:
            write_durably(path, _judged_by(own, found).to_yaml())
        return found

    def train(self, command: str | None, tell: Callable[[Progress], None]) -> Progress:
        """Run the trainer in the run's folder, or go on with it; how it ended.

        Raises:
            TrainingRunsError: it runs already.
        """
        from monailabel_app.training.lock import TrainingLock
        from monailabel_app.training.trainer import Trainer, trainer_command

        run = self.run.absolute()
        with TrainingLock(run).held(run) as held:
            return Trainer(trainer_command(command), run, held).follow(tell)

    def stop(self) -> None:
        """Ask the run to save a checkpoint and to end."""
        from medreasoner_training.finetune import request_stop

        request_stop(self.run)

    @property
    def progress(self) -> Progress:
        """What the run told last.

        Raises:
            ProgressError: it told nothing yet.
        """
        from medreasoner_training.finetune import read_progress

        return read_progress(self.run)

    @property
    def store(self) -> ReasonerStore:
        """The run's own store."""
        from medreasoner_infer.models.store import ReasonerStore

        return ReasonerStore(self.run / STORE_FOLDER)

    @property
    def models(self) -> list[Path]:
        """Folders of the candidates that the run has made."""
        return [self.store.candidate(name).folder for name in self.store.names()]


def own_config(config: FineTuneConfig) -> FineTuneConfig:
    """The configuration with the run's own data set and store; nothing goes live.

    The run's store has no live model: ``live`` is the embedded one.
    """
    from medreasoner_infer.models.registry import EMBEDDED, LIVE

    is_live = config.model.name == LIVE
    return replace(
        config,
        model=replace(config.model, name=EMBEDDED) if is_live else config.model,
        data=replace(config.data, folder=DATA_FOLDER),
        promotion=replace(config.promotion, promote=False, store=STORE_FOLDER),
    )


def _judged_by(config: FineTuneConfig, found: SampleDataset) -> FineTuneConfig:
    """Few validation patients only widen the intervals, as nothing is decided."""
    from medreasoner_training.samples import VALIDATION

    counts = found.manifest.splits.get(VALIDATION)
    validating = 0 if counts is None else counts.patients
    least = max(2, min(config.gate.min_patients, validating))
    return replace(config, gate=replace(config.gate, min_patients=least))


def method_changes(config: FineTuneConfig, method: str | None) -> dict[str, str]:
    """What ``--method`` changes; supervised steps are as many as GRPO's where none are told.

    Raises:
        typer.BadParameter: there is no such method.
    """
    if method is None:
        return {}
    if method not in ("sft", "grpo"):
        raise typer.BadParameter(f"{method!r}; expected sft or grpo", param_hint="--method")
    steps = config.sft.steps or config.grpo.steps
    needs_steps = method == "sft" and not config.sft.steps and steps
    return {"method": method} | ({"sft.steps": str(steps)} if needs_steps else {})


def summary_of(found: SampleDataset) -> str:
    """Rows and patients of each split, and how many rows are left out for which reason."""
    from medreasoner_training.learning.making import in_words
    from medreasoner_training.samples import LeftOut

    left_out = LeftOut()
    for entry in found.manifest.left_out:
        left_out.add(entry.label_name, entry.reason, entry.count)
    splits = ", ".join(
        f"{split} {counts.rows} rows of {counts.patients} patients"
        for split, counts in found.manifest.splits.items()
    )
    return f"{splits}.{in_words(left_out)}"
