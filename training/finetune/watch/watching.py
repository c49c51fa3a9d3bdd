# SPDX-License-Identifier: Apache-2.0
"""Keeps the page of a run up to date while the model learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medreasoner_infer.errors import AnswerError
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.types import ReasonerAnswer
from medreasoner_training.finetune.progress_writer import ProgressWriter
from medreasoner_training.finetune.raw_samples import RawSample, read_sample, scale_sample
from medreasoner_training.finetune.settings import GrpoSettings, WatchSettings
from medreasoner_training.finetune.watch.drawn import Said, draw_answer, draw_truth
from medreasoner_training.finetune.watch.page import Shown, write_watch_page
from medreasoner_training.finetune.watch.record import (
    Group,
    HeldOutAnswer,
    HeldOutQuestion,
    Look,
    ShownRollout,
    WatchRecord,
    read_watched,
    write_watched,
)
from medreasoner_training.rewards import read_truth

if TYPE_CHECKING:
    from datasets import Dataset

    from medreasoner_training.finetune.grouped_batches import Rollouts

#: Held-out samples by their places among the evaluated rows.
ShownSamples = Mapping[int, RawSample]


def held_out_to_show(rows: Dataset, count: int, input_size: int) -> ShownSamples:
    """At most ``count`` held-out rows by their places, evenly through ``rows``.

    Args:
        rows: that the evaluations of the run answer.
        count: of questions.
        input_size: side of the reasoner's square; images, boxes and points are in its pixels.
    """
    places = np.linspace(0, len(rows), min(count, len(rows)), endpoint=False).astype(int).tolist()
    return {place: scale_sample(read_sample(rows[place]), input_size) for place in places}


@dataclass(frozen=True)
class WatchedStage:
    """What the page must know of the stage that it shows.

    Attributes:
        name: of the run.
        folder: ``watch`` in the run's folder; whoever removes it removes all that was shown.
        settings: how much is shown.
        grpo: how many rollouts a question has, and how many steps learn from them.
        frame: how the model writes coordinates.
        first_step: steps that earlier stages of the run have done.
    """

    name: str
    folder: Path
    settings: WatchSettings
    grpo: GrpoSettings
    frame: AnswerFrame
    first_step: int


class Watching(TrainerCallback):
    """Writes the page of a stage; what an earlier start of the run has shown stays on it.

    Args:
        stage: the stage.
        held_out: of :func:`held_out_to_show`.
        progress: of the run; it knows the newest held-out figure.
    """

    def __init__(
        self, stage: WatchedStage, held_out: ShownSamples, progress: ProgressWriter
    ) -> None:
        self._stage = stage
        self._held_out = held_out
        self._progress = progress
        self._questions = tuple(map(_question, held_out.values()))
        self._answers: dict[int, ReasonerAnswer | AnswerError] = {}
        self._is_evaluated = False
        self._state = TrainerState()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Forget what came after the checkpoint that the run goes on from."""
        self._state = state
        record = self._record().until(self._stage.first_step + state.global_step)
        self._show(record if record.questions == self._questions else replace(record, looks=()))

    def answered(self, first: int, answers: Sequence[ReasonerAnswer | AnswerError]) -> None:
        """Take the answers to the held-out rows from ``first`` on."""
        self._is_evaluated = True
        found = dict(enumerate(answers, first))
        self._answers |= {place: found[place] for place in self._held_out if place in found}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show what was answered after this step, if it was a time to evaluate."""
        self._state = state
        if not self._is_evaluated:
            return
        answers = tuple(
            _answer(sample, self._answers[place]) for place, sample in self._held_out.items()
        )
        self._is_evaluated, self._answers = False, {}
        look = Look(self._stage.first_step + state.global_step, answers)
        iou = self._progress.latest.held_out_iou
        self._show(self._record().with_look(look, iou, self._stage.settings.kept))

    def rollouts(self, made: Rollouts) -> None:
        """Show the first groups of a generation, if it is time for a look."""
        settings, grpo = self._stage.settings, self._stage.grpo
        if made.step % settings.every_steps >= grpo.steps_per_rollout * grpo.iterations:
            return
        firsts = range(0, len(made.rows), grpo.generations)[: settings.groups]
        groups = tuple(self._group(made, first) for first in firsts)
        self._show(self._record().with_groups(groups, settings.kept))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the page once more, which nobody needs to load again."""
        self._state = state
        self._show(self._record(), goes_on=False)

    def _group(self, made: Rollouts, first: int) -> Group:
        places = range(first, min(first + self._stage.grpo.generations, len(made.rows)))
        return Group(
            self._stage.first_step + made.step + 1,
            made.rows[first]["query"],
            tuple(self._rollout(made, place) for place in places),
        )

    def _rollout(self, made: Rollouts, place: int) -> ShownRollout:
        row, completion = made.rows[place], made.completions[place]
        truth = read_truth(row["ground_truth"]).target
        said = Said.by_completion(self._stage.frame.in_px(completion))
        return ShownRollout(
            said.told(truth),
            completion,
            dict(made.terms[place]),
            made.advantages[place],
            made.cut_off[place],
            draw_answer(np.asarray(row["square"]), truth, said),
        )

    def _record(self) -> WatchRecord:
        return read_watched(self._stage.folder)

    def _show(self, record: WatchRecord, *, goes_on: bool = True) -> None:
        record = replace(record, questions=self._questions)
        write_watched(self._stage.folder, record)
        step = self._stage.first_step + self._state.global_step
        shown = Shown(self._stage.name, step, self._progress.latest.total_steps, goes_on)
        history = self._state.log_history
        write_watch_page(self._stage.folder, shown, record, history, self._stage.first_step)


def _question(sample: RawSample) -> HeldOutQuestion:
    return HeldOutQuestion(sample.query, sample.label, draw_truth(sample.image, sample.truth))


def _answer(sample: RawSample, answer: ReasonerAnswer | AnswerError) -> HeldOutAnswer:
    said = Said.by_answer(answer)
    drawn = draw_answer(sample.image, sample.truth, said)
    return HeldOutAnswer(said.told(sample.truth), answer.completion or "", drawn)
