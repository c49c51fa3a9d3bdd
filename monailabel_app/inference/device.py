# SPDX-License-Identifier: Apache-2.0
"""The device that the models compute on: one piece of work at a time, clicks before all else."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from medreasoner_infer.hooks import Cancelled, TakeTurn, Work
from monailabel_app.inference.line import Line
from monailabel_app.inference.measures import STAGES, Measures

_REASONERS_WORK = (Work.ANSWER, Work.SEARCH)
# In the line for the device; _RESUMED is a reasoner that has let a click go first.
_RESUMED = 1
_URGENCY = {Work.SLICE: 0, Work.ANSWER: 2, Work.SEARCH: 3, Work.PROPAGATION: 3}


class Device:
    """Whose work is computed next.

    A slice's mask, some 50 ms, goes first, then answers on a slice; searches and propagations take
    turns, slice by slice. A reasoner that computes here lets masks go first even while it writes:
    it is asked between two tokens. Two reasoners' works are never begun beside each other, since
    the second would wait for the model with the device in its hands.

    Args:
        reasons: whether the reasoner computes on it; else its work, which another machine does,
            takes no turn.
        measures: gets how long each piece of work waited and took.
    """

    def __init__(self, measures: Measures, *, reasons: bool = True) -> None:
        self._measures = measures
        self._computing = Line()
        self._reasoning = Line() if reasons else None

    @property
    def waiting(self) -> int:
        """How many pieces of work wait."""
        return self._computing.waiting + (self._reasoning.waiting if self._reasoning else 0)

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
            self._computing.enter(reader, _RESUMED)
        return cancelled is not None and cancelled()
