# SPDX-License-Identifier: Apache-2.0
"""Answer and measure the questions of a data set, and resume where a run was ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.reasoners import Reasoner
from medreasoner_infer.reasoners.prompts import AS_THE_MODEL_SAYS, Asking, Prompting
from medreasoner_infer.segmenters.base import Segmenter
from medreasoner_infer.types import ModelKind
from medreasoner_training.evaluation.answering import answer_cases
from medreasoner_training.evaluation.errors import EvaluationDataError, EvaluationRunError
from medreasoner_training.evaluation.measuring import Measuring, measured
from medreasoner_training.evaluation.pictures import Case, load_case
from medreasoner_training.evaluation.predictions import (
    JOURNAL_NAME,
    PREDICTIONS_NAME,
    Journal,
    Prediction,
    read_predictions,
    write_predictions,
)
from medreasoner_training.evaluation.rows import RowSource
from medreasoner_training.samples.slices import spread

RUN_NAME = "run.json"
#: A folder that an evaluation of a site's own masks is made from; it may be there before a run.
DATA_SET_NAME = "data_set"
OnAnswered = Callable[[int, int], None]
_LOCK_NAME = ".lock"
#: What a record calls the prompt of a model that is asked as its folder or the registry says.
OWN_PROMPT = "the model's"


@dataclass(frozen=True)
class RunSettings:
    """What is asked and measured.

    Attributes:
        limit: so many questions, spread evenly over the data; ``None`` asks all.
        batch: questions that the reasoner gets at once, and that a kill loses at most.
        measuring: which masks are made.
    """

    limit: int | None = None
    batch: int = 8
    measuring: Measuring = field(default_factory=Measuring)

    def __post_init__(self) -> None:
        for name in ("limit", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise EvaluationRunError(f"{name} is {value}; expected 1 or more.")


@dataclass(frozen=True, eq=False)
class Run:
    """A data set, the models that it is put to, and the folder that holds what came out.

    Attributes:
        asking: how the reasoner was told to be asked when it was loaded.
        unpinned: which of the two models others may exchange under the same name.
    """

    source: RowSource
    reasoner: Reasoner
    segmenter: Segmenter
    settings: RunSettings
    folder: Path
    asking: Asking = AS_THE_MODEL_SAYS
    unpinned: tuple[ModelKind, ...] = ()

    @property
    def places(self) -> list[int]:
        """Places of the rows that are asked, in rising order."""
        return places_of(self.source.count, self.settings.limit)

    def record(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed."""
        return {
            "data": {
                "name": self.source.name,
                "split": self.source.split,
                "sha256": self.source.fingerprint,
                "rows": self.source.count,
            },
            "reasoner": asdict(self.reasoner.identity),
            "prompting": {
                "way": self._prompting,
                "prompt": self.asking.prompt or OWN_PROMPT,
                "decoding": "constrained" if self.asking.constrained else "free",
            },
            "segmenter": asdict(self.segmenter.identity),
            "settings": asdict(self.settings),
        }

    @property
    def _prompting(self) -> Prompting | None:
        """``None`` where it is not known of a reasoner how it is asked."""
        template = self.reasoner.template
        if template is None:
            return self.asking.prompting
        return "reasoning" if template.asks_reasoning else "direct"

    def cases(self, places: Sequence[int]) -> Iterator[Case]:
        """The rows at some places with their pixels."""
        for row in self.source.read(places):
            yield load_case(row, self.reasoner.input_size)


def predict(run: Run, on_answered: OnAnswered | None = None) -> list[Prediction]:
    """All predictions of a run: those that are there, then those that are still to be made.

    Args:
        run: its folder is made, or taken up again.
        on_answered: called with (questions done, all questions).

    Raises:
        EvaluationRunError: the folder holds another evaluation, or another process writes into it.
        EvaluationDataError: a row cannot be used, or there is none.
        ServiceError: a model cannot answer now.
    """
    if not run.source.count:
        raise EvaluationDataError("The data set holds no question.")
    with _alone_in(run.folder):
        _require_same_run(run)
        finished, journal = run.folder / PREDICTIONS_NAME, Journal(run.folder / JOURNAL_NAME)
        if not finished.exists():
            _answer_rest(run, journal, on_answered)
            made = [each for batch in journal.values for each in batch]
            write_predictions(made, finished)
        journal.remove()
        return read_predictions(finished)


def _answer_rest(run: Run, journal: Journal, on_answered: OnAnswered | None) -> None:
    places, size = run.places, run.settings.batch
    done = sum(map(len, journal.values))
    if done % size and done != len(places):
        raise EvaluationRunError(f"{JOURNAL_NAME} is damaged. Give a new folder.")
    cases = run.cases(places[done:])
    while batch := list(islice(cases, size)):
        journal.append(_predict_batch(run, batch))
        done += len(batch)
        if on_answered is not None:
            on_answered(done, len(places))


def _predict_batch(run: Run, cases: Sequence[Case]) -> list[Prediction]:
    replies, seconds = answer_cases(run.reasoner, cases)
    return [
        measured(case, reply, seconds, run.segmenter, run.settings.measuring)
        for case, reply in zip(cases, replies, strict=True)
    ]


def read_record(folder: Path) -> dict[str, Any]:
    """What the evaluation in a folder was begun with, see :meth:`Run.record`.

    Raises:
        EvaluationRunError: there is none, or it is damaged.
    """
    path = folder / RUN_NAME
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise EvaluationRunError(
            f"{folder.name} holds no {RUN_NAME}. Give the folder that 'medreasoner evaluate' wrote."
        ) from error
    except ValueError as error:
        raise EvaluationRunError(f"{RUN_NAME} is damaged. Give a new folder.") from error
    if not isinstance(record, dict):
        raise EvaluationRunError(f"{RUN_NAME} is damaged. Give a new folder.")
    return record


def places_of(count: int, limit: int | None) -> list[int]:
    """Places of the rows that are asked of ``count``, in rising order."""
    everything = list(range(count))
    return everything if limit is None else spread(everything, limit)


def _require_same_run(run: Run) -> None:
    path, record = run.folder / RUN_NAME, run.record()
    if not path.exists():
        if {each.name for each in run.folder.iterdir()} - {_LOCK_NAME, DATA_SET_NAME}:
            raise EvaluationRunError(
                "The output folder holds something that is no evaluation. Give a new folder."
            )
        write_durably(path, json.dumps(record, indent=1) + "\n")
        return
    before, now = read_record(run.folder), json.loads(json.dumps(record))
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        raise EvaluationRunError(
            f"The output folder holds an evaluation with other {' and '.join(changed)}. Resume it "
            "with what it was started with, or give a new folder."
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK_NAME, timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise EvaluationRunError(
            "Another process evaluates into this folder. Wait for it, or give another folder."
        ) from error
