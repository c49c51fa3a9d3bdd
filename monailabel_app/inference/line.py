# SPDX-License-Identifier: Apache-2.0
"""A line before something that few may hold at a time: urgent work first, and readers in turn."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from medreasoner_infer.errors import CancelledError
from monailabel_app.errors import ServerBusyError

_POLL_S = 0.2
# Who was passed over by so many that came later is the next, however urgent the others are.
MOST_PASSED = 32
_READERS_REMEMBERED = 1024

Wait = Callable[[threading.Event, float], bool]


@dataclass(eq=False)
class Waiting:
    """One who waits; ``number`` counts arrivals, ``passed`` those who came later and went first.

    ``called_away`` is set where another one does what it waits for; see :meth:`Line.call_away`.
    """

    reader: Hashable
    urgency: int
    number: int
    passed: int = 0
    called_away: bool = False
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
        self._waiting: list[Waiting] = []
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
        self,
        reader: Hashable,
        urgency: int = 0,
        cancelled: Callable[[], bool] | None = None,
        wait: Wait = threading.Event.wait,
    ) -> None:
        """Wait for a place, which :meth:`leave` gives back.

        Args:
            reader: whose work it is.
            urgency: the smaller, the more urgent.
            cancelled: polled while waiting.
            wait: waits for an event as long as it is told.

        Raises:
            ServerBusyError: if the line is full.
            CancelledError: if ``cancelled`` turns true while waiting.
        """
        self.wait(self.stand(reader, urgency), cancelled, wait)

    def wait(
        self,
        waiting: Waiting,
        cancelled: Callable[[], bool] | None = None,
        wait: Wait = threading.Event.wait,
    ) -> bool:
        """Whether there is a place after the wait, else ``waiting`` was called away.

        Raises:
            CancelledError: if ``cancelled`` turns true while waiting.
        """
        entered = False
        try:
            while not wait(waiting.admitted, _POLL_S):
                if cancelled is not None and cancelled():
                    raise CancelledError("The caller left while waiting in line.")
            entered = True
        finally:
            if not entered:
                self._give_up(waiting)
        return not waiting.called_away

    def call_away(self, among: Sequence[Waiting], most: int) -> list[Waiting]:
        """Take up to ``most`` of these, as they would be admitted, from the line without a place.

        Those who do not wait any more stay as they are.
        """
        called: list[Waiting] = []
        with self._changing:
            left = [waiting for waiting in among if waiting in self._waiting]
            while left and len(called) < most:
                chosen = min(left, key=self._rank)
                left.remove(chosen)
                self._waiting.remove(chosen)
                self._remember(chosen.reader)
                chosen.called_away = True
                chosen.admitted.set()
                called.append(chosen)
        return called

    def leave(self, reader: Hashable) -> None:
        """Give a place of ``reader`` to the next."""
        with self._changing:
            self._free(reader)

    def stand(self, reader: Hashable, urgency: int = 0) -> Waiting:
        """Stand in the line; :meth:`wait` must follow.

        Raises:
            ServerBusyError: if the line is full.
        """
        with self._changing:
            full = self._held.total() >= self._limit and self._max_waiting is not None
            if full and len(self._waiting) >= (self._max_waiting or 0):
                raise ServerBusyError(
                    f"{len(self._waiting)} questions are waiting already and no more are "
                    "accepted; ask again in a moment."
                )
            waiting = Waiting(reader, urgency, next(self._numbers))
            self._waiting.append(waiting)
            self._admit()
            return waiting

    def _give_up(self, waiting: Waiting) -> None:
        with self._changing:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif not waiting.called_away:  # admitted while it was about to leave
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

    def _rank(self, waiting: Waiting) -> tuple[bool, int, int, int, int]:
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
