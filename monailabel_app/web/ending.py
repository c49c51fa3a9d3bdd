# SPDX-License-Identifier: Apache-2.0
"""What goes on beside the requests, and its end: work is finished or given up, never cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI

from monailabel_app.inference.gate import WORKERS
from monailabel_app.web.memory import give_back_regularly
from monailabel_app.web.services import Services

_POLL_S = 0.05


def ends_in_order(server: FastAPI) -> FastAPI:
    """Have a server wait, once everybody is answered, for a batch and the threads of streams.

    Call it before the server starts.
    """
    theirs = server.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with theirs(app) as state:
            trimming = asyncio.create_task(give_back_regularly())
            try:
                yield state
            finally:
                trimming.cancel()
            await to_thread.run_sync(_wait_for_work, server)

    server.router.lifespan_context = lifespan
    return server


def _wait_for_work(server: FastAPI) -> None:
    services: Services | None = getattr(server.state, "services", None)
    if services is not None:
        services.batch.end()
    while WORKERS.taken:
        time.sleep(_POLL_S)
