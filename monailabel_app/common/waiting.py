# SPDX-License-Identifier: Apache-2.0
"""Who waits for what: whether the reader is still there, and one call for all who ask the same.

MONAI Label's datastores have methods of fixed signatures between a route and the PACS, so what
tells whether the reader has left goes with the context of the call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

from medreasoner_infer.errors import CancelledError
from medreasoner_infer.hooks import Cancelled
from monailabel_app.errors import ServerBusyError

T = TypeVar("T")

_POLL_S = 0.1
_FAULT_KEPT_S = 1.0
_HAS_LEFT: ContextVar[Cancelled | None] = ContextVar("medreasoner_has_left", default=None)


@contextmanager
def working_for(has_left: Cancelled) -> Iterator[None]:
    """Within the block, work is for a caller of whom ``has_left`` tells whether they have left."""
    token = _HAS_LEFT.set(has_left)
    try:
        yield
    finally:
        _HAS_LEFT.reset(token)


def caller_has_left() -> bool:
    """Whether the one that this thread works for has left."""
    has_left = _HAS_LEFT.get()
    return has_left is not None and has_left()


class SharedCalls(Generic[T]):
    """Work that several may wait for: done once, and stopped when the last of them has left.

    Args:
        most: pieces of work at a time, each in a thread of its own.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._changing = threading.Lock()
        self._calls: dict[str, _Call[T]] = {}
        self._running = 0

    def get(self, key: str, work: Callable[[], T]) -> T:
        """What ``work`` returns, or another's that runs under the same key already.

        Raises:
            ServerBusyError: too much is being fetched already.
            CancelledError: the caller has left.
            Exception: what the work raises.
        """
        call = self._join(key, work)
        try:
            while not wait([call.future], _POLL_S).done:
                if caller_has_left():
                    raise CancelledError("The caller left while the PACS was waited for.")
            return call.future.result()
        finally:
            self._leave(key, call)

    def _join(self, key: str, work: Callable[[], T]) -> _Call[T]:
        with self._changing:
            call = self._calls.get(key)
            if call is None:
                if self._running >= self._most:
                    raise ServerBusyError(
                        f"{self._running} series are being fetched already; ask again in a moment."
                    )
                self._running += 1
                call = self._calls[key] = _Call()
                threading.Thread(
                    target=self._run, args=(key, call, work), name="medreasoner-fetch", daemon=True
                ).start()
            call.waiting += 1
            return call

    def _leave(self, key: str, call: _Call[T]) -> None:
        with self._changing:
            call.waiting -= 1
            if call.waiting == 0:
                call.unwanted.set()
                self._forget(key, call)

    def _forget(self, key: str, call: _Call[T]) -> None:
        if self._calls.get(key) is call:
            del self._calls[key]

    def _run(self, key: str, call: _Call[T], work: Callable[[], T]) -> None:
        try:
            with working_for(call.unwanted.is_set):
                value = work()
        except BaseException as error:  # noqa: BLE001 - raised anew in each thread that waits
            call.future.set_exception(error)
        else:
            call.future.set_result(value)
        finally:
            with self._changing:
                self._running -= 1
                self._forget(key, call)


class _Call(Generic[T]):
    def __init__(self) -> None:
        self.future: Future[T] = Future()
        self.unwanted = threading.Event()
        self.waiting = 0


class KeptAnswer(Generic[T]):
    """An answer that is asked for anew when it is old, by one thread, however many want it.

    While the question hangs, the last answer is given; who asks waits for a new one only a
    moment, counted from when the question was put, so that nobody piles up behind it.

    Args:
        ask: puts the question; it must end by itself.
        expiry_s: how long an answer is as good as new; a fault is for a second at most.
        patience_s: the longest that anybody waits.
        most_waiting: how many wait at a time; the others get what there is at once.
    """

    def __init__(
        self, ask: Callable[[], T], expiry_s: float, patience_s: float, most_waiting: int = 8
    ) -> None:
        self._ask = ask
        self._expiry_s = expiry_s
        self._patience_s = patience_s
        self._patient = threading.BoundedSemaphore(most_waiting)
        self._changing = threading.Lock()
        self._asked: Future[T] | None = None
        self._asked_at = 0.0
        self._good_until = 0.0
        self._known: tuple[T] | None = None

    @property
    def is_late(self) -> bool:
        """Whether what :meth:`get` gives now is an answer of before."""
        return self._asked is not None and not self._asked.done() and self._known is not None

    @property
    def known(self) -> T | None:
        """The last answer, however old; ``None`` where there never was one."""
        return None if self._known is None else self._known[0]

    def get(self) -> T | None:
        """The answer, ``None`` where there never was one and none has come in time.

        Raises:
            CancelledError: the caller has left.
            Exception: what ``ask`` raises.
        """
        asked, asked_at = self._question()
        self._wait_a_moment(asked, asked_at)
        if asked.done():
            return asked.result()
        return self.known

    def _question(self) -> tuple[Future[T], float]:
        now = time.monotonic()
        with self._changing:
            if self._asked is None or (self._asked.done() and now >= self._good_until):
                self._asked, self._asked_at = Future(), now
                threading.Thread(
                    target=self._put, args=(self._asked,), name="medreasoner-list", daemon=True
                ).start()
            return self._asked, self._asked_at

    def _wait_a_moment(self, asked: Future[T], asked_at: float) -> None:
        if asked.done() or not self._patient.acquire(blocking=False):
            return
        try:
            until = asked_at + self._patience_s
            while not asked.done() and (left_s := until - time.monotonic()) > 0:
                wait([asked], min(_POLL_S, left_s))
                if caller_has_left():
                    raise CancelledError("The caller left while the PACS was waited for.")
        finally:
            self._patient.release()

    def _put(self, asked: Future[T]) -> None:
        try:
            value = self._ask()
        except BaseException as error:  # noqa: BLE001 - raised anew in each thread that waits
            self._good_until = time.monotonic() + min(self._expiry_s, _FAULT_KEPT_S)
            asked.set_exception(error)
        else:
            self._known, self._good_until = (value,), time.monotonic() + self._expiry_s
            asked.set_result(value)
