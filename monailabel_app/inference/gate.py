# SPDX-License-Identifier: Apache-2.0
"""One inference at a time, first come first served, and bounded numbers of all that may wait."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medreasoner_infer.errors import CancelledError
from monailabel_app.errors import ServerBusyError

_POLL_S = 0.2


class InferenceGate:
    """Admits ``limit`` threads at a time; at most ``max_waiting`` more may wait.

    All models of the app share one pipeline and one device, hence one gate.

    Args:
        served: of those admitted, who do not count as waiting; all if not given.
    """

    def __init__(self, max_waiting: int, limit: int = 1, served: int | None = None) -> None:
        self._limit = limit
        self._max_waiting = max_waiting
        self._served = limit if served is None else served
        self._running = 0
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    def anteroom(self) -> InferenceGate:
        """A gate to pass before this one; it admits one more, who may get ready meanwhile.

        The line forms before the anteroom, so that what is got ready never piles up.
        """
        ahead = min(1, self._max_waiting)
        return InferenceGate(self._max_waiting - ahead, self._limit + ahead, self._limit)

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        with self._changed:
            return len(self._line)

    @contextmanager
    def slot(self, cancelled: Callable[[], bool] | None = None) -> Iterator[None]:
        """Wait for a slot and hold it.

        Raises:
            ServerBusyError: if the line is full.
            CancelledError: if ``cancelled`` turns true while waiting.
        """
        self._enter(cancelled)
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _enter(self, cancelled: Callable[[], bool] | None) -> None:
        ticket = object()
        with self._changed:
            here = self._running + len(self._line)
            if here >= self._limit + self._max_waiting:
                raise ServerBusyError(
                    f"{here - self._served} questions are waiting already and no more are "
                    "accepted; ask again in a moment."
                )
            self._line.append(ticket)
            try:
                while self._line[0] is not ticket or self._running >= self._limit:
                    if cancelled is not None and cancelled():
                        raise CancelledError("The caller left while waiting in line.")
                    self._changed.wait(timeout=_POLL_S)
                self._running += 1
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()


class Places:
    """A bounded number of places; who finds none is told at once.

    Args:
        most: places in total.
        most_each: places of one caller.
    """

    def __init__(self, most: int, most_each: int | None = None) -> None:
        self._most = most
        self._most_each = most if most_each is None else most_each
        self._taken: Counter[str | None] = Counter()
        self._changing = threading.Lock()

    @property
    def taken(self) -> int:
        """How many places are taken."""
        with self._changing:
            return self._taken.total()

    @contextmanager
    def place(self, caller: str | None = None) -> Iterator[None]:
        """Hold a place.

        Args:
            caller: whose place it is; where nobody has to log in, all are ``None`` and one.

        Raises:
            ServerBusyError: if there is none.
        """
        with self._changing:
            if self._taken.total() >= self._most:
                raise ServerBusyError(
                    f"The server works at {self._most} requests already and takes no more; try "
                    "again in a moment."
                )
            if caller is not None and self._taken[caller] >= self._most_each:
                raise ServerBusyError(
                    f"{self._most_each} of your requests are being worked at already; wait for one "
                    "of them or cancel it."
                )
            self._taken[caller] += 1
        try:
            yield
        finally:
            with self._changing:
                self._taken[caller] -= 1
                if not self._taken[caller]:
                    del self._taken[caller]


# Each has a thread of its own, of which a process has only so many.
WORKERS = Places(64, most_each=16)
