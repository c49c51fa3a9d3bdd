# SPDX-License-Identifier: Apache-2.0
"""One inference at a time, first come first served, and a bounded line."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medreasoner_infer.errors import CancelledError
from monailabel_app.errors import ServerBusyError

_POLL_S = 0.2


class InferenceGate:
    """Admits ``limit`` threads at a time; at most ``max_waiting`` more may wait.

    All models of the app share one pipeline and one device, hence one gate.
    """

    def __init__(self, max_waiting: int, limit: int = 1) -> None:
        self._limit = limit
        self._max_waiting = max_waiting
        self._running = 0
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

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
            if self._running + len(self._line) >= self._limit + self._max_waiting:
                raise ServerBusyError(
                    f"{len(self._line)} questions are waiting already and no more are accepted; "
                    "ask again in a moment."
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
