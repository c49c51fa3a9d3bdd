# SPDX-License-Identifier: Apache-2.0
"""A list of questions put to studies, and taken up again where a run was ended."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from filelock import FileLock, Timeout

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.errors import InputError, MedReasonerError
from monailabel_app.batch.engines import Engine
from monailabel_app.batch.errors import BatchFolderError, BatchProcessError, BatchRunningError
from monailabel_app.batch.journal import ProcessJournal, read_journal
from monailabel_app.batch.pace import paced
from monailabel_app.batch.questions import Question
from monailabel_app.batch.report import Report
from monailabel_app.batch.results import Results
from monailabel_app.batch.studies import BatchStudies, opened
from monailabel_app.batch.work import ImageWork, Models, Pair, WorkerSettings, pair_key
from monailabel_app.batch.worker import FETCHED, answer_image, models_of
from monailabel_app.common.private_files import PRIVATE_FILE, private_folder

RUN_NAME = "run.json"
_LOCK_NAME = ".lock"
_ENDED = "ProcessEnded"
OnDone = Callable[[int, int], None]


@dataclass(frozen=True)
class Batch:
    """What is asked, of which studies, and by whom.

    Attributes:
        questions: of the list.
        settings: of the processes that answer.
        engine: where they are.
        limit: so many pairs, the first ones; ``None`` for all.
        per_minute: questions at most; ``None`` for no bound.
        own_records: whether the site named the folder of the records.
    """

    questions: tuple[Question, ...]
    settings: WorkerSettings
    engine: Engine
    limit: int | None = None
    per_minute: float | None = None
    own_records: bool = False


def run_batch(batch: Batch, on_done: OnDone = lambda done, total: None) -> Report:
    """Ask what is not answered yet; each pair of an image and a question once.

    Args:
        batch: what is asked.
        on_done: called with (pairs done, all pairs).

    Raises:
        BatchRunningError: another run works on the same folder.
        BatchFolderError: the folder holds something else.
        InputError: studies or models are not there.
        ServiceError: studies, records or models are not available.
    """
    settings = batch.settings
    with _alone_in(settings), opened(settings, own_records=batch.own_records) as studies:
        _require_same_run(settings)
        asked = _Asked.of(batch, studies)
        with batch.engine as engine:
            models = _models(engine)
            run = _Run(batch, studies, engine, asked.pairs(models), on_done)
            pairs = run.finished()
        return _report(batch, studies, models, asked, pairs)


@dataclass(frozen=True)
class _Asked:
    """Each question with each image that it is for, once.

    Attributes:
        images: ids, with the question.
        unknown: rows that name what is not there.
        duplicates: how often a row asks what another one asks already.
    """

    images: tuple[tuple[str, Question], ...]
    unknown: tuple[Pair, ...]
    duplicates: int

    @classmethod
    def of(cls, batch: Batch, studies: BatchStudies) -> _Asked:
        """What a batch asks of these studies, image by image."""
        chosen: list[tuple[Question, set[str]]] = []
        unknown = []
        for question in batch.questions:
            try:
                chosen.append((question, studies.chosen(question)))
            except InputError as error:
                named = question.image or question.series or question.study or ""
                aside = Pair("", named, question, failed=type(error).__name__, reason=str(error))
                unknown.append(aside)
        every = [(image, q) for image in studies.images for q, found in chosen if image in found]
        single: dict[tuple[str, str], tuple[str, Question]] = {}
        for image, question in every:
            single.setdefault((image, question.key), (image, question))
        wanted = tuple(single.values())[: batch.limit]
        return cls(wanted, tuple(unknown), len(every) - len(single))

    def pairs(self, models: Models) -> list[Pair]:
        """The same as pairs of these models, nothing of which is answered yet."""
        return [Pair(pair_key(image, q, models), image, q) for image, q in self.images]


class _Run:
    """The pairs of a run by their keys, which become answered."""

    def __init__(
        self,
        batch: Batch,
        studies: BatchStudies,
        engine: Engine,
        pairs: list[Pair],
        on_done: OnDone,
    ) -> None:
        self._batch, self._studies, self._engine = batch, studies, engine
        self._pairs = {(pair.image_id, pair.question.key): pair for pair in pairs}
        self._on_done = on_done
        self._is_drafted = batch.settings.results is Results.DATASET
        self._finished: set[tuple[str, str]] = set()

    def finished(self) -> list[Pair]:
        """All pairs with what came of them, those of earlier runs too."""
        open_pairs = self._take_over(self._pairs.values())
        lost = self._ask(open_pairs)
        # Whoever ends a process takes others along; by itself it is known.
        for pair in self._take_over(lost):
            for again in self._ask([pair]):
                said = (
                    "The process that read the study ended in the middle of it, e.g. for want of "
                    "memory."
                )
                self._done(replace(again, failed=_ENDED, reason=said))
        return list(self._pairs.values())

    def _take_over(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Note what the journal knows of pairs; returns the others."""
        self._known = read_journal(self._batch.settings.out)
        found = [(pair, self._known.found(pair)) for pair in list(pairs)]
        for _, before in found:
            if before is not None:
                self._done(before)
        return [pair for pair, before in found if before is None]

    def _ask(self, pairs: list[Pair]) -> list[Pair]:
        """Ask; returns the pairs of images whose process has ended."""
        lost = []
        works = paced(
            self._works(pairs), self._batch.per_minute, cost=lambda work: len(work.questions)
        )
        for work, told in self._engine.map(answer_image, works):
            if told is None:
                lost += [self._pairs[work.image_id, each.key] for each in work.questions]
            for pair in told or ():
                self._done(pair)
        return lost

    def _works(self, pairs: list[Pair]) -> Iterator[ImageWork]:
        """By image, as many questions at once as may be asked in a minute."""
        rate = self._batch.per_minute
        most = len(self._pairs) if rate is None else max(1, int(rate))
        for image_id, group in groupby(pairs, key=lambda pair: pair.image_id):
            of_image = list(group)
            try:
                source = self._studies.source(image_id)
            except InputError as error:
                for pair in of_image:
                    self._done(replace(pair, failed=type(error).__name__, reason=str(error)))
                continue
            for start in range(0, len(of_image), most):
                part = of_image[start : start + most]
                begun = {p.key: self._known.begun.get(p.key, ()) for p in part}
                yield ImageWork(image_id, tuple(p.question for p in part), source, begun)

    def _done(self, pair: Pair) -> None:
        if self._is_drafted and pair.outcome is not None and pair.key not in self._known.kept:
            pair = self._drafted(pair)
        place = pair.image_id, pair.question.key
        self._pairs[place] = pair
        self._finished.add(place)
        self._on_done(len(self._finished), len(self._pairs))

    def _drafted(self, pair: Pair) -> Pair:
        try:
            self._studies.keep_draft(pair)
        except MedReasonerError as error:
            failed = type(error).__name__
            return replace(pair, outcome=None, seconds=None, failed=failed, reason=str(error))
        self._journal.kept(pair.key)
        return pair

    @cached_property
    def _journal(self) -> ProcessJournal:
        return ProcessJournal(self._batch.settings.out)


def _models(engine: Engine) -> Models:
    ((_, models),) = engine.map(models_of, [None])
    if models is None:
        raise BatchProcessError(
            "The process that loads the models ended in the middle of it, e.g. for want of memory. "
            "Try fewer processes."
        )
    return models


def _report(
    batch: Batch, studies: BatchStudies, models: Models, asked: _Asked, pairs: list[Pair]
) -> Report:
    for_all = any(not (q.image or q.series or q.study) for q in batch.questions)
    aside = studies.set_aside() if for_all else ()
    report = Report(models, (*pairs, *asked.unknown), asked.duplicates, aside)
    if batch.settings.results is not Results.SEG:
        return report
    studies.send_due()
    states = list(studies.archive_states(pair for pair in pairs if pair.outcome is not None))
    never = tuple(f"{pair.image_id}: {said}" for pair, state, said in states if state == "failed")
    return replace(report, archived=Counter(state for _, state, _ in states), not_archived=never)


def _require_same_run(settings: WorkerSettings) -> None:
    """Check that the folder is empty, or was made for the same studies and kind of results."""
    folder = settings.out
    path = folder / RUN_NAME
    studies = hashlib.sha256(settings.studies.encode()).hexdigest()  # an address may hold a login
    record = {"studies_sha256": studies, "results": settings.results.value}
    if not path.exists():
        if {each.name for each in folder.iterdir()} - {_LOCK_NAME}:
            raise BatchFolderError(
                "The output folder holds something that is no batch. Give a new folder."
            )
        write_durably(path, json.dumps(record, indent=1) + "\n")
        return
    try:
        before = json.loads(path.read_bytes())
    except ValueError as error:
        raise BatchFolderError(f"{RUN_NAME} is damaged. Give a new folder.") from error
    if before != record:
        raise BatchFolderError(
            "The output folder holds a batch of other studies, or with other results. Go on with "
            "what it was started with, or give a new folder."
        )


@contextmanager
def _alone_in(settings: WorkerSettings) -> Iterator[None]:
    folder = private_folder(settings.out)
    lock = FileLock(folder / _LOCK_NAME, timeout=0, mode=PRIVATE_FILE)
    try:
        lock.acquire()
    except Timeout as error:
        raise BatchRunningError(
            "Another batch works on this folder. Wait for its end, or give another folder."
        ) from error
    try:
        shutil.rmtree(folder / FETCHED, ignore_errors=True)  # what a killed process has left
        yield
        shutil.rmtree(folder / FETCHED, ignore_errors=True)
    finally:
        lock.release()
