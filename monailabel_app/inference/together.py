# SPDX-License-Identifier: Apache-2.0
"""Questions that wait for the same reasoner are answered as rows of one batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from medreasoner_infer.hooks import Answers, Cancelled, OnText, Question, raise_if_cancelled
from medreasoner_infer.types import ReasonerAnswer, ReasonerRequest
from monailabel_app.inference.line import Line, Waiting

_POLL_S = 0.2


@dataclass(frozen=True, eq=False)
class Asked:
    """One reader's question that waits; ``since`` is in seconds of ``time.perf_counter``."""

    reader: Hashable
    reasoner: Answers
    question: Question
    standing: Waiting
    since: float = field(default_factory=time.perf_counter)
    answer: Future[ReasonerAnswer] = field(default_factory=Future)


TakeDevice = Callable[[Asked], AbstractContextManager[Callable[[], object]]]
Compute = Callable[[Callable[[], "Outcomes"]], "Outcomes"]
Outcomes = Sequence[ReasonerAnswer | Exception]


class Together:
    """Each question stands in the line; whose turn it is takes along those that wait for the same.

    So nothing is delayed for the sake of a batch: what came while one was answered is the next.
    Whoever has the turn does the work for the others, whose threads wait.

    Args:
        line: of those who wait for a reasoner.
        urgency: of a question in it.
        take_device: gives what to poll between two tokens, once the device is free.
        compute: runs the work where models compute.
        begun: told of each question once it is worked at.
    """

    def __init__(
        self,
        line: Line,
        urgency: int,
        take_device: TakeDevice,
        compute: Compute,
        begun: Callable[[Sequence[Asked]], AbstractContextManager[object]],
    ) -> None:
        self._line = line
        self._urgency = urgency
        self._take_device = take_device
        self._compute = compute
        self._begun = begun
        self._changing = threading.Lock()
        self._asked: list[Asked] = []

    def answer(
        self,
        reader: Hashable,
        cancelled: Cancelled | None,
        reasoner: Answers,
        request: ReasonerRequest,
        on_text: OnText | None,
    ) -> ReasonerAnswer:
        """The answer to this question.

        Raises:
            CancelledError: if the reader left; else as a reasoner.
        """
        told = None if on_text is None else _Told(on_text)
        question = Question(request, told, cancelled)
        asked = Asked(reader, reasoner, question, self._line.stand(reader, self._urgency))
        with self._changing:
            self._asked.append(asked)
        try:
            if self._line.wait(asked.standing, cancelled):
                try:
                    self._lead(asked)
                finally:
                    self._line.leave(reader)
            while not wait([asked.answer], _POLL_S).done:
                raise_if_cancelled(cancelled)
            return asked.answer.result()
        finally:
            with self._changing:
                self._asked.remove(asked)

    def _lead(self, first: Asked) -> None:
        with self._take_device(first) as between:
            batch = [first, *self._taken_along(first)]
            try:
                with self._begun(batch):
                    outcomes = self._answered(batch, between)
            except BaseException as error:  # the process ends: nobody is to wait on
                for asked in batch:
                    asked.answer.set_exception(error)
                raise
        for asked, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                asked.answer.set_exception(outcome)
            else:
                asked.answer.set_result(outcome)

    def _taken_along(self, first: Asked) -> list[Asked]:
        with self._changing:
            others = {
                asked.standing: asked
                for asked in self._asked
                if asked is not first and asked.reasoner is first.reasoner
            }
        called = self._line.call_away(list(others), first.reasoner.most_together - 1)
        return [others[standing] for standing in called]

    def _answered(self, batch: Sequence[Asked], between: Callable[[], object]) -> Outcomes:
        """An answer or a fault for each; where all failed together each is asked alone."""
        reasoner, questions = batch[0].reasoner, [asked.question for asked in batch]
        for question in questions:
            if isinstance(question.on_text, _Told):
                question.on_text.begin()
        try:
            return self._compute(lambda: reasoner.answer_each(questions, between=between))
        except Exception as error:  # noqa: BLE001 - each reader gets the fault of their own question
            if len(batch) == 1:
                return [error]
        return [outcome for asked in batch for outcome in self._answered([asked], between)]


class _Told:
    """Tells a reader the text of an answer once, also where the answer is begun anew."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._told_chars = 0
        self._known_chars = 0

    def begin(self) -> None:
        """The text comes from its start."""
        self._known_chars = self._told_chars

    def __call__(self, piece: str) -> None:
        """Pass on what of the next piece was not told yet."""
        new = piece[self._known_chars :]
        self._known_chars = max(0, self._known_chars - len(piece))
        if new:
            self._told_chars += len(new)
            self._on_text(new)
