# SPDX-License-Identifier: Apache-2.0
"""Streams that are under way: work in a thread of its own, events to the client, and a way to stop.

The event loop only passes events on; whoever leaves or cancels stops the work at its next step.
"""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from anyio import CapacityLimiter, to_thread
from sse_starlette import EventSourceResponse, ServerSentEvent

from monailabel_app.answering import Cancelled
from monailabel_app.errors import NotFoundError
from monailabel_app.http_errors import as_http_error
from monailabel_app.streaming.events import Emit

Work = Callable[[Emit, Cancelled], None]

_PING_S = 15


class RunningStreams:
    """The streams of one server; used in its event loop only."""

    def __init__(self) -> None:
        self._stops: dict[str, threading.Event] = {}
        # The loop itself keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    def respond(self, work: Work, withhold: str | None = None) -> EventSourceResponse:
        """Run ``work`` and send its events.

        Args:
            work: emits events; raises as the pipeline does.
            withhold: text that must not reach the log (the question).
        """
        return EventSourceResponse(self.events(work, withhold), ping=_PING_S, sep="\n")

    def cancel(self, stream_id: str) -> None:
        """Stop a stream's work.

        Raises:
            NotFoundError: if it has ended already.
        """
        stop = self._stops.get(stream_id)
        if stop is None:
            raise NotFoundError("No question of this id is being answered; it may have ended.")
        stop.set()

    async def events(self, work: Work, withhold: str | None) -> AsyncIterator[ServerSentEvent]:
        """The events of ``work``, the first of them with the stream's id."""
        stream_id, stop = uuid.uuid4().hex, threading.Event()
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[ServerSentEvent | None] = asyncio.Queue()

        def emit(name: str, data: dict[str, Any]) -> None:
            event = ServerSentEvent(json.dumps(data, separators=(",", ":")), event=name, sep="\n")
            loop.call_soon_threadsafe(queue.put_nowait, event)

        self._stops[stream_id] = stop
        task = asyncio.create_task(_run(work, emit, stop, withhold))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: queue.put_nowait(None))
        emit("accepted", {"stream_id": stream_id})
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            stop.set()
            del self._stops[stream_id]


async def _run(work: Work, emit: Emit, stop: threading.Event, withhold: str | None) -> None:
    def answer() -> None:
        try:
            work(emit, stop.is_set)
        except Exception as error:  # noqa: BLE001 - the boundary: each fault becomes an event
            fault = as_http_error(error, withhold)
            emit("error", {"status": fault.status_code, "detail": fault.detail})

    # A thread of its own: questions in line never use up those that answer everything else.
    await to_thread.run_sync(answer, limiter=CapacityLimiter(1))
