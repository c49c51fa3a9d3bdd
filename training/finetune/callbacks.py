# SPDX-License-Identifier: Apache-2.0
"""What happens between two steps of TRL's trainers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medreasoner_training.finetune.checkpoints import mark_complete
from medreasoner_training.finetune.errors import NonFiniteLossError
from medreasoner_training.finetune.progress import State, stop_requested
from medreasoner_training.finetune.progress_writer import ProgressWriter

#: Takes a figure by its name at a step.
AddFigure = Callable[[str, float, int], None]
_NON_FINITE = (
    "The {what} of step {step} is {value}. The last good checkpoint and the live model are "
    "untouched; lower the learning rate or grpo.max_grad_norm, then start a new run."
)


class Reporter(TrainerCallback):
    """Writes steps and rewards into ``progress.json``.

    Args:
        progress: the run's.
        first_step: steps that earlier stages of the run have done.
    """

    def __init__(self, progress: ProgressWriter, first_step: int) -> None:
        self._progress = progress
        self._first_step = first_step

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Begin to count at the checkpoint's step, from which the time left is estimated."""
        self._progress.begin_training(self._first_step + state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the number of the step."""
        self._progress.step_done(self._first_step + state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Write the mean reward over the rollouts of the logged steps."""
        if logs and "reward" in logs:
            self._progress.step_done(self._first_step + state.global_step, float(logs["reward"]))


class FiniteGuard(TrainerCallback):
    """Ends the training before a NaN reaches the weights or a checkpoint."""

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Look at the gradient.

        Raises:
            NonFiniteLossError: it is not finite.
        """
        weights = () if model is None else model.parameters()
        grads = [weight.grad for weight in weights if weight.grad is not None]
        _require_finite("gradient's norm", _norm(grads), state.global_step + 1)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Look at the weights that have learnt, before they answer or are saved.

        Raises:
            NonFiniteLossError: they are not finite.
        """
        weights = () if model is None else model.parameters()
        learnt = [weight.detach() for weight in weights if weight.requires_grad]
        _require_finite("weights' norm", _norm(learnt), state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Look at the loss, which sharded trainings show only here.

        Raises:
            NonFiniteLossError: it is not finite.
        """
        for what in ("loss", "grad_norm"):
            _require_finite(what, float((logs or {}).get(what, 0.0)), state.global_step)


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return float(torch.nn.utils.get_total_norm(tensors)) if tensors else 0.0


def _require_finite(what: str, value: float, step: int) -> None:
    if not math.isfinite(value):
        raise NonFiniteLossError(_NON_FINITE.format(what=what, step=step, value=value))


class StopOnRequest(TrainerCallback):
    """Saves a checkpoint and ends the training once the stop file is there."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self.stopped = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """All processes follow the main one, or the others would wait for it forever."""
        if _agreed(stop_requested(self._run_dir)) and state.global_step < state.max_steps:
            self.stopped = control.should_save = control.should_training_stop = True


def _agreed(flag: bool) -> bool:
    """The main process's ``flag``."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return flag
    from accelerate.utils import broadcast_object_list

    return bool(broadcast_object_list([flag])[0])


class MarkComplete(TrainerCallback):
    """Says of each checkpoint that all of it is written."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Runs after the trainer has written its last file."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            mark_complete(Path(args.output_dir or "") / f"checkpoint-{state.global_step}")


class HeldOutEvaluation(TrainerCallback):
    """Lets the model answer held-out samples greedily every so many steps.

    Args:
        evaluate: mean box IoU of the model as it is now.
        every: steps.
        progress: receives the figure.
        add_figure: likewise, in the main process only.
        first_step: steps that earlier stages of the run have done.
    """

    def __init__(
        self,
        evaluate: Callable[[], float | None],
        every: int,
        progress: ProgressWriter,
        add_figure: AddFigure | None,
        first_step: int,
    ) -> None:
        self._evaluate = evaluate
        self._every = every
        self._progress = progress
        self._add_figure = add_figure
        self._first_step = first_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Evaluate if it is time; the last step is judged by the comparison anyway."""
        if state.global_step % self._every or state.global_step >= state.max_steps:
            return
        step = self._first_step + state.global_step
        self._progress.report(State.EVALUATING, f"Answering held-out samples after step {step}.")
        iou = self._evaluate()
        self._progress.evaluated(iou)
        if self._add_figure is not None and iou is not None:
            self._add_figure("held_out/box_iou", iou, state.global_step)
