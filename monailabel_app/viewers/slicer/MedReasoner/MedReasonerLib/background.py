# SPDX-License-Identifier: Apache-2.0
"""Work beside Slicer's window: network calls in threads, their outcome in the window's thread.

Neither Qt's widgets nor MRML may be touched from another thread, so threads only put what they
have into a queue, and a timer of the window empties it. ``slicer.app.processEvents`` inside a
blocking loop would let a second click start a second question in the midst of the first.

A thread of Python's runs only while Slicer's own thread does not hold Python's lock, which it may
keep while Qt waits for events. :meth:`Background.poll` therefore waits for a moment in the queue,
which gives the lock away: the threads get on, whatever Slicer does between two polls.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from .errors import ReaderError

POLL_EVERY_MS = 40
POLL_FOR_S = 0.01

Tell = Callable[[Any], None]
Work = Callable[[Tell], Any]
# The round in which work was started, and what it has to say.
_Outcome = tuple[int, Callable[[], None]]


class Background:
    """Runs work in threads; everything it has to say is said inside :meth:`poll`."""

    def __init__(self) -> None:
        self._outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._round = 0
        self._polling = False

    def run(
        self,
        work: Work,
        *,
        done: Tell,
        failed: Callable[[str], None],
        told: Tell | None = None,
    ) -> None:
        """Run ``work`` in a thread of its own.

        Args:
            work: gets a function, what it calls that with goes to ``told``; its result to ``done``.
            failed: gets a sentence instead.
        """
        number = self._round

        def say(listener: Tell | None, value: Any) -> None:
            if listener is not None:
                self._outcomes.put((number, lambda: listener(value)))

        def run() -> None:
            """What the thread does: the work, and what came of it for the next poll."""
            try:
                result = work(lambda value: say(told, value))
            except ReaderError as error:
                say(failed, str(error))
            except Exception as error:  # noqa: BLE001 - the boundary: a thread has no caller
                # Its kind only: a message could repeat what was asked, and Slicer keeps a log.
                say(failed, f"Something went wrong in the module ({type(error).__name__}).")
            else:
                say(done, result)

        thread = threading.Thread(target=run, name="MedReasoner", daemon=True)
        self._threads.append(thread)
        thread.start()

    def poll(self, wait_s: float = POLL_FOR_S) -> None:
        """Pass on what has come, in the caller's thread; while work runs, wait for ``wait_s``."""
        if self._polling:
            return  # a listener lets Qt handle events, the timer's among them
        self._polling = True
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        try:
            until = time.monotonic() + (wait_s if self._threads else 0.0)
            while (outcome := self._next(until)) is not None:
                number, speak = outcome
                if number == self._round:
                    speak()
        finally:
            self._polling = False

    def _next(self, until: float) -> _Outcome | None:
        try:
            return self._outcomes.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None

    def forget(self) -> None:
        """Let nothing that is under way be heard any more."""
        self._round += 1
