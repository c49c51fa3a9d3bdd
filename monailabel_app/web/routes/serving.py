# SPDX-License-Identifier: Apache-2.0
"""Running work for a request without blocking the event loop, for as long as its caller waits."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from medreasoner_infer.errors import CancelledError
from medreasoner_infer.hooks import Cancelled
from monailabel_app.common.waiting import working_for
from monailabel_app.framework import User, get_current_user
from monailabel_app.inference.gate import WORKERS, Places
from monailabel_app.web.routes.callers import caller_of, client_of

_POLL_S = 0.25

T = TypeVar("T")


async def run_in_thread(
    request: Request,
    work: Callable[[Cancelled], T],
    caller: str | None = None,
    places: Places = WORKERS,
) -> T:
    """Run ``work`` in a worker thread; its argument tells whether the client has left.

    Each call has a thread of its own, so that questions waiting in line never use up the threads
    in which the server answers everything else.

    Args:
        caller: who is told apart from others when there are too many; see :class:`Places`.

    Raises:
        ServerBusyError: there are too many already; no thread was started.
    """
    left = threading.Event()

    def work_for_the_caller() -> T:
        with working_for(left.is_set):
            return work(left.is_set)

    with places.place(caller):
        watcher = asyncio.create_task(_watch(request, left))
        try:
            return await to_thread.run_sync(work_for_the_caller, limiter=CapacityLimiter(1))
        finally:
            left.set()
            await _end(watcher)


def in_own_thread(handler: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    """A handler that may wait for the PACS or a disk, in a thread of its own.

    FastAPI would run it in one of forty threads, by which it also reads the files that it sends:
    as many requests that wait for a PACS would keep everybody from everything.
    """

    @functools.wraps(handler)
    async def run(*args: Any, **kwargs: Any) -> T:
        work = functools.partial(handler, *args, **kwargs)
        return await to_thread.run_sync(work, limiter=CapacityLimiter(1))

    return run


async def attended(
    request: Request, user: Annotated[User, Depends(get_current_user)]
) -> AsyncIterator[None]:
    """A dependency of handlers in a thread: bounds their number, and tells if the caller leaves.

    Raises:
        ServerBusyError: there are too many already; no thread was started.
    """
    left = threading.Event()
    with WORKERS.place(client_of(request, caller_of(user))), working_for(left.is_set):
        watcher = asyncio.create_task(_watch(request, left))
        try:
            yield
        finally:
            left.set()
            await _end(watcher)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns; it is stopped once the client has left.

    Raises:
        CancelledError: in that case.
    """
    left = threading.Event()
    watcher = asyncio.create_task(_watch(request, left))
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait((watcher, working), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CancelledError("The caller left.")
        return working.result()
    finally:
        await _end(watcher)
        await _end(working)


async def _watch(request: Request, left: threading.Event) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(_POLL_S)
    left.set()


async def _end(task: asyncio.Future[Any]) -> None:
    """Stop ``task``, if it still runs, and wait until it has put everything in order."""
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
