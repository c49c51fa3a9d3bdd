# SPDX-License-Identifier: Apache-2.0
"""The device that the models compute on: one piece of work at a time, clicks before all else."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from medreasoner_infer.hooks import Answers, Cancelled, Hooks, OnText, TakeTurn, Work
from medreasoner_infer.types import ReasonerAnswer, ReasonerRequest
from monailabel_app.inference.compute_thread import ComputeThread
from monailabel_app.inference.line import Line
from monailabel_app.inference.measures import STAGES, Measures
from monailabel_app.inference.together import Asked, Together

T = TypeVar("T")

_REASONERS_WORK = (Work.ANSWER, Work.SEARCH)
# In the line for the device; _RESUMED is a reasoner that has let a click go first.
_RESUMED = 1
_URGENCY = {Work.SLICE: 0, Work.ANSWER: 2, Work.SEARCH: 3, Work.PROPAGATION: 3}


class Device:
    """Whose work is computed next.

    A slice's mask, some 50 ms, goes first, then answers on a slice; searches and propagations take
    turns, slice by slice. A reasoner that computes here lets masks go first even while it writes:
    it is asked between two tokens. Two reasoners' works are never begun beside each other, since
    the second would wait for the model with the device in its hands. Questions that wait for the
    same reasoner are answered together, as far as it can.

    Args:
        measures: gets how long each piece of work waited and took.
        reasons: whether the reasoner computes on it; else its work, which another machine does,
            takes no turn.
        thread: in which models compute; by default each piece of work in that of its request.
    """

    def __init__(
        self, measures: Measures, *, reasons: bool = True, thread: ComputeThread | None = None
    ) -> None:
        self._measures = measures
        self._thread = thread
        self._computing = Line()
        self._reasoning = Line() if reasons else None
        self._together = None
        if self._reasoning is not None:
            self._together = Together(
                self._reasoning,
                _URGENCY[Work.ANSWER],
                self._take_for_batch,
                self.run,
                self._begun,
            )

    @property
    def waiting(self) -> int:
        """How many pieces of work wait."""
        return self._computing.waiting + (self._reasoning.waiting if self._reasoning else 0)

    def hooks_of(self, reader: Hashable, hooks: Hooks) -> Hooks:
        """These hooks, with the work of this reader taking its turns and computed here."""
        return replace(
            hooks,
            take_turn=self.turns_of(reader, hooks.cancelled),
            compute_in=self._compute,
            answer_one=partial(self._answer, reader, hooks.cancelled),
        )

    def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns where models compute, e.g. of loading them; takes no turn."""
        return work() if self._thread is None else self._thread.run(work)

    def turns_of(self, reader: Hashable, cancelled: Cancelled | None) -> TakeTurn:
        """How the work of one reader takes its turns; see :class:`~medreasoner_infer.hooks.Hooks`.

        Args:
            reader: readers are served in turn.
            cancelled: polled while waiting; the wait then ends with a ``CancelledError``.
        """
        return partial(self._turn, reader, cancelled)

    @contextmanager
    def _turn(
        self, reader: Hashable, cancelled: Cancelled | None, work: Work
    ) -> Iterator[Cancelled | None]:
        urgency, stage = _URGENCY[work], STAGES[work]
        reasons = work in _REASONERS_WORK
        if reasons and self._reasoning is None:
            with self._measures.working(stage):
                yield cancelled
            return
        started = time.perf_counter()
        with ExitStack() as places:
            if reasons and self._reasoning is not None:
                places.enter_context(self._reasoning.place(reader, urgency, cancelled))
            places.enter_context(self._computing.place(reader, urgency, cancelled))
            self._measures.waited(stage, time.perf_counter() - started)
            with self._measures.working(stage):
                yield partial(self._let_pass, reader, cancelled) if reasons else cancelled

    def _let_pass(self, reader: Hashable, cancelled: Cancelled | None) -> bool:
        """Let masks go first; whether the caller has left."""
        if self._computing.is_wanted(_RESUMED):
            self._computing.leave(reader)
            # Not given up half-way: the place is given back where the turn ends.
            if self._thread is None:
                self._computing.enter(reader, _RESUMED)
            else:
                self._computing.enter(reader, _RESUMED, wait=self._thread.wait)
        return cancelled is not None and cancelled()

    def _compute(self, work: Work, piece: Callable[[], T]) -> T:
        is_remote = work in _REASONERS_WORK and self._reasoning is None
        return piece() if is_remote else self.run(piece)

    def _answer(
        self,
        reader: Hashable,
        cancelled: Cancelled | None,
        reasoner: Answers,
        request: ReasonerRequest,
        on_text: OnText | None,
    ) -> ReasonerAnswer:
        """The answer to one question, maybe beside others; see :class:`Hooks`."""
        if self._together is not None:
            return self._together.answer(reader, cancelled, reasoner, request, on_text)
        with self._turn(reader, cancelled, Work.ANSWER):
            return reasoner.answer(request, on_text=on_text, cancelled=cancelled)[0]

    @contextmanager
    def _take_for_batch(self, first: Asked) -> Iterator[Callable[[], object]]:
        cancelled = first.question.cancelled
        with self._computing.place(first.reader, _URGENCY[Work.ANSWER], cancelled):
            yield partial(self._let_pass, first.reader, None)

    @contextmanager
    def _begun(self, batch: Sequence[Asked]) -> Iterator[None]:
        """Measure each question's wait, and how long they are worked at."""
        stage, now = STAGES[Work.ANSWER], time.perf_counter()
        with ExitStack() as working:
            for asked in batch:
                self._measures.waited(stage, now - asked.since)
                working.enter_context(self._measures.working(stage))
            yield
