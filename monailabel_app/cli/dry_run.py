# SPDX-License-Identifier: Apache-2.0
"""``medreasoner train --dry-run``: what a training would meet, and the memory that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monailabel_app.cli.train_dataset import own_config

if TYPE_CHECKING:
    from medreasoner_training.finetune import FineTuneConfig
    from medreasoner_training.finetune.dry_run import Learnt
    from medreasoner_training.finetune.memory.found_model import FoundModel


@dataclass(frozen=True)
class LearntData:
    """What is learnt from, as ``medreasoner train --dataset`` takes it; ``data`` may be absent."""

    data: str | None
    questions: Path | None
    split: str | None
    val_share: float

    def look(self, config: FineTuneConfig, found: FoundModel) -> Learnt:
        """The rows that would be learnt from, without writing them."""
        from medreasoner_infer.errors import MedReasonerError
        from medreasoner_training.finetune.dry_run import Finding, Learnt, Weight
        from medreasoner_training.finetune.grpo import require_samples
        from medreasoner_training.finetune.settings import Method
        from medreasoner_training.learning import LearningSettings, planned_learning_set
        from medreasoner_training.learning.making import in_words
        from medreasoner_training.samples import TRAIN

        if self.data is None:
            told = "None was named: studies are exported when the training begins."
            return Learnt((), (Finding(Weight.NOTE, "data", told),))
        settings = LearningSettings(found.settings.input_size, self.val_share, self.split)
        try:
            plan = planned_learning_set(self.data, settings, questions=self.questions)
            if config.method is Method.grpo:
                require_samples(plan.rows.get(TRAIN, 0), config.grpo)
        except MedReasonerError as error:
            return Learnt((), (Finding(Weight.FAULT, "data", str(error)),))
        rows = ", ".join(f"{split} {count} rows" for split, count in plan.rows.items())
        told = f"{rows}.{in_words(plan.left_out)}"
        return Learnt(plan.questions, (Finding(Weight.OK, "data", told),))


def reckoned(
    config: FineTuneConfig,
    data: LearntData,
    gpu_gb: float | None,
    gpus: int,
    out: Path | None,
) -> int:
    """Print the checks and the memory; the exit code.

    Raises:
        MedReasonerError: the model or its sizes are not known.
    """
    from medreasoner_infer.models.store import ReasonerStore
    from medreasoner_training.finetune.dry_run import dry_run
    from medreasoner_training.finetune.dry_run_table import show

    found = dry_run(
        config if data.data is None else own_config(config),
        ReasonerStore(),
        lambda model: data.look(config, model),
        gpu_gb=gpu_gb,
        gpus=gpus,
    )
    return show(found, out)
