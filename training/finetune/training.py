# SPDX-License-Identifier: Apache-2.0
"""Carrying out one stage with its callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from medreasoner_infer.models.loading import load_segmenter
from medreasoner_infer.models.registry import resolve_model
from medreasoner_training.finetune.callbacks import (
    FiniteGuard,
    HeldOutEvaluation,
    MarkComplete,
    Reporter,
    StopOnRequest,
)
from medreasoner_training.finetune.checkpoints import require_space
from medreasoner_training.finetune.grpo import grpo_trainer
from medreasoner_training.finetune.progress_writer import ProgressWriter
from medreasoner_training.finetune.rows import RowMaker, spread_rows
from medreasoner_training.finetune.sft import sft_trainer
from medreasoner_training.finetune.stage import (
    Stage,
    checkpoint_to_resume,
    held_out_evaluator,
    is_main_process,
    model_of,
    note_parent,
    publish_model,
    require_change,
    run_trainer,
)
from medreasoner_training.finetune.tunable import TunableReasoner, load_trainable
from medreasoner_training.samples import Augmentation

if TYPE_CHECKING:
    from datasets import Dataset
    from torch.utils.tensorboard import SummaryWriter
    from transformers import Trainer, TrainerCallback

    from medreasoner_infer.reasoners.transformers_loading import LoadedModel
    from medreasoner_infer.segmenters.base import Segmenter
    from medreasoner_training.finetune.config import FineTuneConfig
    from medreasoner_training.finetune.preparation import Prepared


def train_stage(
    prepared: Prepared, stage: Stage, start: TunableReasoner, progress: ProgressWriter
) -> bool:
    """Train, and publish the model's folder; ``False`` if the run was stopped before.

    Raises:
        DiskFullError: the disk cannot hold the checkpoints.
        NonFiniteLossError, FrozenWeightsChangedError, NothingLearntError: the training went wrong.
    """
    config = prepared.config
    stage.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoint_to_resume(stage)
    loaded = load_trainable(start, config.tuning, config.run, checkpoint)
    trainer = build_trainer(prepared, stage, start, loaded)
    trained = sum(
        weight.numel() for weight in model_of(trainer).parameters() if weight.requires_grad
    )
    require_space(prepared.run_dir, trained, config.run)
    stop = StopOnRequest(prepared.run_dir)
    evaluate = _counting(
        prepared, held_out_evaluator(trainer, loaded, start.settings, _evaluated_rows(prepared))
    )
    for callback in (stop, *_callbacks(prepared, stage, evaluate, progress)):
        trainer.add_callback(callback)
    if checkpoint is None:
        note_parent(stage, model_of(trainer))
    run_trainer(trainer, checkpoint)
    if stop.stopped:
        return False
    require_change(stage, trainer)
    publish_model(trainer, stage, start)
    return True


def build_trainer(
    prepared: Prepared, stage: Stage, start: TunableReasoner, loaded: LoadedModel
) -> Trainer:
    """TRL's trainer of a stage, without callbacks."""
    config = prepared.config
    augmentation = Augmentation(config.augmentation) if config.data.augment else None
    maker = RowMaker(start.settings, loaded.frame, config.data.image_sizes, augmentation)
    if stage.name == "sft":
        return sft_trainer(config, stage, loaded, prepared.training, maker)
    segmenter = segmenter_of(config) if config.rewards.mask_weight > 0 else None
    return grpo_trainer(config, stage, loaded, prepared.training, maker, segmenter)


def segmenter_of(config: FineTuneConfig) -> Segmenter | None:
    """The frozen segmenter, if the configuration names one."""
    if config.promotion.segmenter is None:
        return None
    spec = resolve_model("segmenter", config.promotion.segmenter)
    return load_segmenter(spec, device=config.run.device)


def tensorboard_writer(prepared: Prepared, stage: Stage) -> SummaryWriter | None:
    """Writes curves into ``RUN_DIR/tensorboard/STAGE``."""
    if not is_main_process():
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(prepared.run_dir / "tensorboard" / stage.name))


def _evaluated_rows(prepared: Prepared) -> Dataset:
    """At most ``eval_samples`` rows, evenly through the validation split."""
    rows = prepared.validation
    return spread_rows(rows, min(prepared.config.run.eval_samples, len(rows)))


def _counting(
    prepared: Prepared, evaluate: Callable[[], float | None]
) -> Callable[[], float | None]:
    """Let a look at the patients who decide count as the run's attempt, though it may be stopped.

    Whoever stops a run because its curve is bad chooses among candidates as much as the gate does.
    """

    def look() -> float | None:
        """Count, once for the run, and evaluate."""
        if is_main_process():
            prepared.store.count_attempt(prepared.record.fingerprint, prepared.record.candidate)
        return evaluate()

    return look


def _callbacks(
    prepared: Prepared,
    stage: Stage,
    evaluate: Callable[[], float | None],
    progress: ProgressWriter,
) -> Iterator[TrainerCallback]:
    from transformers.integrations import TensorBoardCallback

    yield from (FiniteGuard(), Reporter(progress, stage.first_step), MarkComplete())
    writer = tensorboard_writer(prepared, stage)
    if writer is not None:
        yield TensorBoardCallback(writer)
    every = prepared.config.run.eval_steps
    if every:
        yield HeldOutEvaluation(evaluate, every, progress, writer, stage.first_step)
