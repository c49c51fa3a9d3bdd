# SPDX-License-Identifier: Apache-2.0
"""A line before something that few may hold at a time: urgent work first, and readers in turn."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from medreasoner_infer.errors import CancelledError
from monailabel_app.errors import ServerBusyError

_POLL_S = 0.2
# Who was passed over by so many that came later is the next, however urgent the others are.
MOST_PASSED = 32
_READERS_REMEMBERED = 1024


@dataclass(eq=False)
class _Waiting:
    """One who waits; ``number`` counts arrivals, ``passed`` those who came later and went first."""

    reader: Hashable
    urgency: int
    number: int
    passed: int = 0
    admitted: threading.Event = field(default_factory=threading.Event)


class Line:
    """Admits ``limit`` at a time.

    Of those who wait the most urgent is next; among equals the reader who holds the fewest places,
    then the one who was last admitted the longest ago, then who came first. So a reader who asks
    for much waits for their own work, not the others. Safe to use from several threads.

    Args:
        limit: who may hold a place at a time.
        max_waiting: who may wait; any number if not given.
    """

    def __init__(self, limit: int = 1, max_waiting: int | None = None) -> None:
        self._limit = limit
        self._max_waiting = max_waiting
        self._changing = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._held: Counter[Hashable] = Counter()
        self._last_admitted: dict[Hashable, int] = {}
        self._numbers = itertools.count()

    @property
    def waiting(self) -> int:
        """How many wait."""
        with self._changing:
            return len(self._waiting)

    @property
    def held(self) -> int:
        """How many places are held."""
        with self._changing:
            return self._held.total()

    def is_wanted(self, urgency: int) -> bool:
        """Whether somebody waits whose work is more urgent than ``urgency``."""
        with self._changing:
            return any(waiting.urgency < urgency for waiting in self._waiting)

    @contextmanager
    def place(
        self, reader: Hashable, urgency: int = 0, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[None]:
        """Wait for a place and hold it; see :meth:`enter`."""
        self.enter(reader, urgency, cancelled)
        try:
            yield
        finally:
            self.leave(reader)

    def enter(
        self, reader: Hashable, urgency: int = 0, cancelled: Callable[[], bool] | None = None
    ) -> None:
        """Wait for a place, which :meth:`leave` gives back.

        Args:
            reader: whose work it is.
            urgency: the smaller, the more urgent.
            cancelled: polled while waiting.

        Raises:
            ServerBusyError: if the line is full.
            CancelledError: if ``cancelled`` turns true while waiting.
        """
        waiting = self._queue(reader, urgency)
        entered = False
        try:
            while not waiting.admitted.wait(_POLL_S):
                if cancelled is not None and cancelled():
                    raise CancelledError("The caller left while waiting in line.")
            entered = True
        finally:
            if not entered:
                self._give_up(waiting)

    def leave(self, reader: Hashable) -> None:
        """Give a place of ``reader`` to the next."""
        with self._changing:
            self._free(reader)

    def _queue(self, reader: Hashable, urgency: int) -> _Waiting:
        with self._changing:
            full = self._held.total() >= self._limit and self._max_waiting is not None
            if full and len(self._waiting) >= (self._max_waiting or 0):
                raise ServerBusyError(
                    f"{len(self._waiting)} questions are waiting already and no more are "
                    "accepted; ask again in a moment."
                )
            waiting = _Waiting(reader, urgency, next(self._numbers))
            self._waiting.append(waiting)
            self._admit()
            return waiting

    def _give_up(self, waiting: _Waiting) -> None:
        with self._changing:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:  # admitted while it was about to leave
                self._free(waiting.reader)

    def _free(self, reader: Hashable) -> None:
        self._held[reader] -= 1
        if not self._held[reader]:
            del self._held[reader]
        self._admit()

    def _admit(self) -> None:
        """Give free places away; the caller holds the lock."""
        while self._waiting and self._held.total() < self._limit:
            chosen = min(self._waiting, key=self._rank)
            self._waiting.remove(chosen)
            for other in self._waiting:
                other.passed += other.number < chosen.number
            self._held[chosen.reader] += 1
            self._remember(chosen.reader)
            chosen.admitted.set()

    def _rank(self, waiting: _Waiting) -> tuple[bool, int, int, int, int]:
        return (
            waiting.passed < MOST_PASSED,
            waiting.urgency,
            self._held[waiting.reader],
            self._last_admitted.get(waiting.reader, -1),
            waiting.number,
        )

    def _remember(self, reader: Hashable) -> None:
        self._last_admitted.pop(reader, None)
        self._last_admitted[reader] = next(self._numbers)
        if len(self._last_admitted) > _READERS_REMEMBERED:
            del self._last_admitted[next(iter(self._last_admitted))]
