# SPDX-License-Identifier: Apache-2.0
"""Carrying out one stage with its callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from medreasoner_infer.models.loading import load_segmenter
from medreasoner_infer.models.registry import resolve_model
from medreasoner_training.finetune.callbacks import (
    AddFigure,
    FiniteGuard,
    HeldOutEvaluation,
    MarkComplete,
    Reporter,
    StopOnRequest,
)
from medreasoner_training.finetune.checkpoints import require_space
from medreasoner_training.finetune.grpo import grpo_trainer
from medreasoner_training.finetune.progress_writer import ProgressWriter
from medreasoner_training.finetune.reporting import Reported, Tracking, tensorboard_writer
from medreasoner_training.finetune.rows import RowMaker, spread_rows
from medreasoner_training.finetune.settings import ReportTo
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
from medreasoner_training.finetune.watch.record import page_of
from medreasoner_training.finetune.watch.watching import (
    WatchedStage,
    Watching,
    held_out_to_show,
)
from medreasoner_training.samples import Augmentation

if TYPE_CHECKING:
    from datasets import Dataset
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
    rows = _evaluated_rows(prepared)
    watching = _watching(prepared, stage, loaded, rows, progress)
    evaluate = _counting(
        prepared,
        held_out_evaluator(
            trainer,
            loaded,
            start.settings,
            rows,
            None if watching is None else watching.answered,
        ),
    )
    for callback in (stop, *_callbacks(prepared, stage, evaluate, progress)):
        trainer.add_callback(callback)
    if watching is not None:
        _watch(trainer, watching)
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
    yield from (FiniteGuard(), Reporter(progress, stage.first_step), MarkComplete())
    reporting = _reporting(prepared, stage)
    if reporting is not None:
        yield reporting[0]
    every = prepared.config.run.eval_steps
    if every:
        add_figure = None if reporting is None else reporting[1]
        yield HeldOutEvaluation(evaluate, every, progress, add_figure, stage.first_step)


def _reporting(prepared: Prepared, stage: Stage) -> tuple[TrainerCallback, AddFigure] | None:
    """What reports the figures of each logged step, and takes a single one."""
    to = prepared.config.run.report_to
    if not is_main_process():
        return None
    if to is ReportTo.tensorboard:
        from transformers.integrations import TensorBoardCallback

        writer = tensorboard_writer(prepared.run_dir, stage.title)
        return TensorBoardCallback(writer), writer.add_scalar
    name = f"{prepared.record.candidate} {stage.title}"
    tracker = Reported(prepared.run_dir, stage.folder, name).tracker(to)
    if tracker is None:
        return None
    return Tracking(tracker), lambda name, value, step: tracker.log({name: value}, step)


def _watching(
    prepared: Prepared,
    stage: Stage,
    loaded: LoadedModel,
    rows: Dataset,
    progress: ProgressWriter,
) -> Watching | None:
    """What keeps the page of the run, if it has one."""
    config = prepared.config
    if not config.watch.enabled or not is_main_process():
        return None
    shown = WatchedStage(
        prepared.run_dir.name,
        page_of(prepared.run_dir).parent,
        config.watch,
        config.grpo,
        loaded.frame,
        stage.first_step,
    )
    side = prepared.start.settings.input_size
    return Watching(shown, held_out_to_show(rows, config.watch.questions, side), progress)


def _watch(trainer: Trainer, watching: Watching) -> None:
    """After the evaluation, whose answers it shows; supervised steps have no rollouts."""
    from medreasoner_training.finetune.grouped_batches import GroupedGRPOTrainer

    trainer.add_callback(watching)
    if isinstance(trainer, GroupedGRPOTrainer):
        trainer.on_rollouts = watching.rollouts
