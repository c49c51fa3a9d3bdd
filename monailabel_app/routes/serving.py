# SPDX-License-Identifier: Apache-2.0
"""Running blocking work for a request without blocking the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request

from monailabel_app.answering import Cancelled

_POLL_S = 0.25

T = TypeVar("T")


async def run_in_thread(request: Request, work: Callable[[Cancelled], T]) -> T:
    """Run ``work`` in a worker thread; its argument tells whether the client has left.

    Each call has a thread of its own, so that questions waiting in line never use up the threads
    in which the server answers everything else. The line itself is bounded by the app.
    """
    left = threading.Event()
    watcher = asyncio.create_task(_watch(request, left))
    try:
        return await to_thread.run_sync(work, left.is_set, limiter=CapacityLimiter(1))
    finally:
        left.set()
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


async def _watch(request: Request, left: threading.Event) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(_POLL_S)
    left.set()
