# SPDX-License-Identifier: Apache-2.0
"""Streams that are under way: work in a thread of its own, events to the client, and a way to stop.

The event loop only passes events on; whoever leaves or cancels stops the work at its next step,
and so does a client that does not take its events.
"""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any

from anyio import CapacityLimiter, to_thread
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from medreasoner_infer.errors import CancelledError
from medreasoner_infer.hooks import Cancelled
from monailabel_app.common.http_errors import as_http_error
from monailabel_app.common.waiting import working_for
from monailabel_app.errors import NotFoundError
from monailabel_app.inference.gate import WORKERS, Places
from monailabel_app.web.streaming.events import Emit

Work = Callable[[Emit, Cancelled], None]

_PING_S = 15
# What is kept for a client that reads slowly. A longer event is kept if nothing else is.
MOST_UNREAD_CHARS = 8 << 20
# The longest that the work waits for the client to read; it may hold the device meanwhile.
UNREAD_S = 20.0
# The longest that one event, maybe the mask of a whole volume, may take to the client.
_SEND_S = 300.0
_POLL_S = 0.1


class RunningStreams:
    """The streams of one server; used in its event loop only.

    Args:
        places: of all that has a thread of its own.
        unread_s: the longest that work waits for a client that does not read.
    """

    def __init__(self, places: Places = WORKERS, unread_s: float = UNREAD_S) -> None:
        self._places = places
        self._unread_s = unread_s
        self._stops: dict[str, threading.Event] = {}
        # The loop itself keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    def respond(
        self, work: Work, withhold: str | None = None, caller: str | None = None
    ) -> EventSourceResponse:
        """Run ``work`` and send its events.

        Args:
            work: emits events; raises as the pipeline does.
            withhold: text that must not reach the log (the question).
            caller: whose stream it is; see :class:`~monailabel_app.inference.gate.Places`.

        Raises:
            ServerBusyError: there are too many streams already; no thread was started.
        """
        place = ExitStack()
        place.enter_context(self._places.place(caller))
        return _Response(self._events(work, withhold, place), place)

    def cancel(self, stream_id: str) -> None:
        """Stop a stream's work.

        Raises:
            NotFoundError: if it has ended already.
        """
        stop = self._stops.get(stream_id)
        if stop is None:
            raise NotFoundError("No question of this id is being answered; it may have ended.")
        stop.set()

    def events(self, work: Work, withhold: str | None) -> AsyncIterator[ServerSentEvent]:
        """The events of ``work``, the first of them with the stream's id."""
        place = ExitStack()
        place.enter_context(self._places.place())
        return self._events(work, withhold, place)

    async def _events(
        self, work: Work, withhold: str | None, place: ExitStack
    ) -> AsyncIterator[ServerSentEvent]:
        stream_id, stop = uuid.uuid4().hex, threading.Event()
        mail = _Mail(asyncio.get_running_loop(), stop, self._unread_s)
        self._stops[stream_id] = stop
        # The place is that of the thread, which may end after the stream.
        task = asyncio.create_task(_run(work, mail, stop, withhold, place.pop_all()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: mail.end())
        mail.put("accepted", {"stream_id": stream_id})
        try:
            while (event := await mail.take()) is not None:
                yield event
        finally:
            stop.set()
            del self._stops[stream_id]


class _Response(EventSourceResponse):
    """Gives the place back also where the client left before the first event."""

    def __init__(self, events: AsyncIterator[ServerSentEvent], place: ExitStack) -> None:
        super().__init__(events, ping=_PING_S, sep="\n", send_timeout=_SEND_S)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._place.close()


class _Mail:
    """Events on their way from the work's thread to the client."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, stop: threading.Event, unread_s: float
    ) -> None:
        self._loop = loop
        self._stop = stop
        self._unread_s = unread_s
        self._queue: asyncio.Queue[tuple[int, ServerSentEvent] | None] = asyncio.Queue()
        self._unread_chars = 0
        self._changed = threading.Condition()

    def emit(self, name: str, data: dict[str, Any]) -> None:
        """Send an event once there is room for it.

        Raises:
            CancelledError: the client has left, has cancelled, or does not read.
        """
        text = json.dumps(data, separators=(",", ":"))
        self._wait_for_room(len(text))
        self._send(name, text)

    def put(self, name: str, data: dict[str, Any]) -> None:
        """Send a short event whether there is room or not."""
        self._send(name, json.dumps(data, separators=(",", ":")))

    def end(self) -> None:
        """Nothing follows."""
        self._queue.put_nowait(None)

    async def take(self) -> ServerSentEvent | None:
        """The next event, ``None`` after the last."""
        item = await self._queue.get()
        if item is None:
            return None
        with self._changed:
            self._unread_chars -= item[0]
            self._changed.notify_all()
        return item[1]

    def _send(self, name: str, text: str) -> None:
        event = ServerSentEvent(text, event=name, sep="\n")
        with self._changed:
            self._unread_chars += len(text)
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (len(text), event))

    def _wait_for_room(self, chars: int) -> None:
        waited_s = 0.0
        with self._changed:
            while not self._stop.is_set():
                if not self._unread_chars or self._unread_chars + chars <= MOST_UNREAD_CHARS:
                    return
                if waited_s >= self._unread_s:
                    self._stop.set()
                    break
                self._changed.wait(_POLL_S)
                waited_s += _POLL_S
        raise CancelledError("The caller left, or does not read the answer.")


async def _run(
    work: Work, mail: _Mail, stop: threading.Event, withhold: str | None, place: ExitStack
) -> None:
    def answer() -> None:
        try:
            with working_for(stop.is_set):
                work(mail.emit, stop.is_set)
        except Exception as error:  # noqa: BLE001 - the boundary: each fault becomes an event
            fault = as_http_error(error, withhold)
            mail.put("error", {"status": fault.status_code, "detail": fault.detail})

    with place:
        # A thread of its own: questions in line never use up those that answer everything else.
        await to_thread.run_sync(answer, limiter=CapacityLimiter(1))
