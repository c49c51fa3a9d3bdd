# SPDX-License-Identifier: Apache-2.0
"""Waiting for another machine, with an end: at a limit of time, or when nobody waits any more.

A thread that is blocked in a read cannot be called back. So what talks to another machine runs in
an event loop, which can be stopped at any moment, in a thread of its own; the caller's thread only
waits, and looks every now and then whether its own caller is still there.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, cast

from medreasoner_infer.errors import CancelledError
from medreasoner_infer.hooks import Cancelled

POLL_S = 0.1

T = TypeVar("T")
P = TypeVar("P")

Emit = Callable[[P], None]
Work = Callable[[Emit[Any]], Coroutine[Any, Any, T]]


class OutOfTimeError(Exception):
    """The work did not end within its limit; whoever asked says what that means."""


def run_cancellable(
    work: Work[T],
    *,
    total_s: float,
    cancelled: Cancelled | None = None,
    receive: Emit[Any] | None = None,
) -> T:
    """What ``work`` returns; it is stopped when the time is up or the caller leaves.

    Args:
        work: a coroutine; it gets a function by which it may emit pieces before it ends.
        total_s: limit of the whole, in seconds.
        cancelled: polled while waiting and before each piece is received.
        receive: gets each piece, in the calling thread.

    Raises:
        OutOfTimeError: the limit has passed.
        CancelledError: ``cancelled`` said so.
        Exception: what ``work`` or ``receive`` raises.
    """
    running: _LoopThread[T] = _LoopThread(work)
    deadline = time.monotonic() + total_s
    try:
        while not running.is_over:
            if cancelled is not None and cancelled():
                raise CancelledError("The caller left while another machine was waited for.")
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise OutOfTimeError
            running.deliver(receive, min(POLL_S, left_s))
        return running.outcome()
    finally:
        running.stop()


_END = object()


class _LoopThread(Generic[T]):
    """One run of ``work`` in an event loop and thread of its own."""

    def __init__(self, work: Work[T]) -> None:
        self.is_over = False
        self._emitted: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._value: T | None = None
        self._error: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(work(self._emitted.put))
        # Not waited for at the end: a look-up of a name that hangs must keep nobody.
        threading.Thread(target=self._run, name="medreasoner-waiting", daemon=True).start()

    def deliver(self, receive: Emit[Any] | None, wait_s: float) -> None:
        """Wait for the next piece, or the end, for so long at most."""
        try:
            piece = self._emitted.get(timeout=wait_s)
        except queue.Empty:
            return
        if piece is _END:
            self.is_over = True
        elif receive is not None:
            receive(piece)

    def outcome(self) -> T:
        """What ``work`` returned; its fault is raised here."""
        if self._error is not None:
            raise self._error
        return cast(T, self._value)

    def stop(self) -> None:
        """Cancel ``work`` if it still runs; its thread closes what it opened."""
        if not self.is_over:
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:  # the loop is closed: it has ended by itself
                return

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._value = self._loop.run_until_complete(self._task)
        except BaseException as error:  # noqa: BLE001 - raised anew in the thread that waits
            self._error = error
        finally:
            self._emitted.put(_END)
            self._close()

    def _close(self) -> None:
        loop = self._loop
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
