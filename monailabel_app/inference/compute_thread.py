# SPDX-License-Identifier: Apache-2.0
"""The one thread in which the models compute, whoever asks."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")

_LOOK_S = 0.002


class ComputeThread:
    """Runs work in one thread for as long as the process lives, in the order in which it comes.

    Each thread that computes with torch on a CPU keeps a team of OpenMP's threads of its own. As
    soon as there are two such teams, GNU's OpenMP has more threads than the machine has cores,
    lets all of them sleep at once where they have to wait, and the small steps of a reasoner that
    writes take several times as long. So requests, each in a thread of its own, compute here.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="models", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises there; within the thread it is run at once.

        It has the context variables of the caller, who waits.
        """
        if threading.current_thread() is self._thread:
            return work()
        done: Future[T] = Future()
        context = copy_context()

        def job() -> None:
            try:
                done.set_result(context.run(work))
            except BaseException as error:  # noqa: BLE001 - it is the caller's, who raises it
                done.set_exception(error)

        self._jobs.put(job)
        return done.result()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """As ``event.wait``; in the thread itself it goes on with what others let it run."""
        if threading.current_thread() is not self._thread:
            return event.wait(timeout_s)
        end_s = time.monotonic() + timeout_s
        while not event.is_set() and time.monotonic() < end_s:
            self._run_next(_LOOK_S)
        return event.is_set()

    def _work(self) -> None:
        while True:
            self._run_next(None)

    def _run_next(self, timeout_s: float | None) -> None:
        # In a frame of its own, so that nothing of a job is kept until the next one comes.
        try:
            job: Any = self._jobs.get(timeout=timeout_s)
        except queue.Empty:
            return
        job()
