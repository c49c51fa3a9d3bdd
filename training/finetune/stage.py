# SPDX-License-Identifier: Apache-2.0
"""One stage of a run: training with checkpoints, and publishing the trained model's folder."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.reasoners.prompts import PROMPT_FILE, PromptFile, prompt_json
from medreasoner_infer.types import ModelIdentity
from medreasoner_training.finetune.checkpoints import newest_complete, remove_unfinished
from medreasoner_training.finetune.frozen import (
    frozen_sha256,
    learning_sha256,
    require_learnt,
    require_unchanged,
)
from medreasoner_training.finetune.tunable import TunableReasoner

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import nn
    from transformers import Trainer

    from medreasoner_infer.reasoners.transformers_loading import LoadedModel
    from medreasoner_training.finetune.scoring import OnAnswers

ADAPTER_FILE = "adapter_model.safetensors"
_UNWANTED = ("training_args.bin",)
_PARENT = "parent.sha256"


@dataclass(frozen=True)
class Stage:
    """A part of one of a run's trainings.

    Attributes:
        name: ``sft`` or ``grpo``.
        folder: its checkpoints, and ``model`` once it is done.
        steps: optimiser steps.
        first_step: steps of the stages before it, those of earlier trainings among them.
        training: which of the run's trainings it is of, from 0.
    """

    name: str
    folder: Path
    steps: int
    first_step: int = 0
    training: int = 0

    @property
    def title(self) -> str:
        """What its figures are kept under: the name, and the training's number if it has others."""
        return self.name if self.training == 0 else f"{self.name}-{self.training + 1}"

    @property
    def model_folder(self) -> Path:
        """The trained model or adapter; it exists once the stage is done."""
        return self.folder / "model"


def is_main_process() -> bool:
    """Whether this process writes; ``accelerate launch`` numbers the others from 1."""
    return os.environ.get("RANK", "0") == "0"


def checkpoint_to_resume(stage: Stage) -> Path | None:
    """The newest complete checkpoint; unfinished ones are removed."""
    if is_main_process():
        remove_unfinished(stage.folder)
    return newest_complete(stage.folder)


def model_of(trainer: Trainer) -> nn.Module:
    """The model that a trainer was given; it may be absent as long as it is not made yet."""
    return cast("nn.Module", trainer.model)


def run_trainer(trainer: Trainer, checkpoint: Path | None) -> None:
    """Train, from a checkpoint on if there is one.

    Raises:
        FrozenWeightsChangedError: weights changed that must not learn.
        NonFiniteLossError: loss or gradient became NaN or infinite.
    """
    model = model_of(trainer)
    before = frozen_sha256(model)
    with _without_false_alarm():
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    require_unchanged(before, frozen_sha256(model))


def note_parent(stage: Stage, model: nn.Module) -> None:
    """Keep the hash of the weights that are to learn, once, before the first step."""
    if is_main_process() and not (stage.folder / _PARENT).is_file():
        write_durably(stage.folder / _PARENT, learning_sha256(model) or "")


def require_change(stage: Stage, trainer: Trainer) -> None:
    """Refuse a stage that ends with the weights that it began with.

    Raises:
        NothingLearntError: it does.
    """
    noted = stage.folder / _PARENT
    before = noted.read_text(encoding="utf-8") if noted.is_file() else ""
    require_learnt(before or None, learning_sha256(model_of(trainer)), trainer.state.log_history)


@contextmanager
def _without_false_alarm() -> Iterator[None]:
    """Keep the trainer from listing all weights as missing; ``load_trainable`` has loaded them."""

    def wanted(record: logging.LogRecord) -> bool:
        return "keys in the checkpoint model loaded" not in record.getMessage()

    logger = logging.getLogger("transformers.trainer")
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


def publish_model(trainer: Trainer, stage: Stage, start: TunableReasoner) -> None:
    """Write the trained model's folder, whole or not at all; every process takes part."""
    unfinished = stage.folder / "model.unfinished"
    if is_main_process():
        shutil.rmtree(unfinished, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(unfinished))
    if is_main_process():
        _tidy(unfinished, start)
        os.replace(unfinished, stage.model_folder)
    trainer.accelerator.wait_for_everyone()


def _tidy(folder: Path, start: TunableReasoner) -> None:
    """Leave what the store takes; an adapter names its base, a full model how it is asked."""
    for path in folder.iterdir():
        if path.is_dir():  # the frozen reference adapter of a KL term
            shutil.rmtree(path)
        elif path.name in _UNWANTED:
            path.unlink()
    if (folder / ADAPTER_FILE).is_file():
        _name_base(folder / "adapter_config.json", start.base)
    else:
        (folder / PROMPT_FILE).write_text(prompt_json(start.settings), encoding="utf-8")


def _name_base(path: Path, base: str) -> None:
    """Only now: while it trains, peft would look a name up on the internet at every checkpoint."""
    name, _, revision = (base, "", "") if Path(base).exists() else base.partition("@")
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields |= {"base_model_name_or_path": name, "revision": revision or None}
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def trained_reasoner(start: TunableReasoner, stage: Stage) -> TunableReasoner:
    """What a done stage leaves for the next one."""
    folder = stage.model_folder
    if (folder / ADAPTER_FILE).is_file():
        return dataclasses.replace(start, adapter=folder)
    return dataclasses.replace(start, folder=folder, adapter=None)


def held_out_evaluator(
    trainer: Trainer,
    loaded: LoadedModel,
    settings: PromptFile,
    raw: Dataset,
    on_answers: OnAnswers | None = None,
) -> Callable[[], float | None]:
    """Mean box IoU of the model in training, answering as it would when served.

    All processes answer the same rows, as sharded weights need every process at each layer.
    """
    from medreasoner_infer.reasoners.transformers_engine import TransformersReasoner
    from medreasoner_training.finetune.scoring import held_out_of, mean_iou, score_reasoner

    held_out = held_out_of(raw)
    identity = ModelIdentity("in training", "memory", None, None, "as its base")

    def evaluate() -> float | None:
        """Mean box IoU of the weights in training on the held-out samples."""
        from trl.models.utils import unwrap_model_for_generation

        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
            was_training = model.training
            model.eval()
            served = dataclasses.replace(loaded, model=model)
            reasoner = TransformersReasoner(served, identity, settings, prefix_cache_bytes=0)
            try:
                scores = score_reasoner(reasoner, raw, name=identity.name, on_answers=on_answers)
            finally:
                model.train(was_training)
        return mean_iou(scores, held_out)

    return evaluate
