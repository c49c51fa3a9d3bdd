# SPDX-License-Identifier: Apache-2.0
"""Memory that was freed goes back to the machine."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

from anyio import to_thread

_PERIOD_S = 30.0


def trimmer() -> Callable[[int], int] | None:
    """glibc's ``malloc_trim``; ``None`` where the C library is another one.

    Each request has a thread of its own, and glibc an arena for every few threads, in which what
    was freed stays: volumes and the model's intermediate results are large, and come in all sizes.
    """
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


async def give_back_regularly() -> None:
    """Trim now and then until cancelled, in a thread, as it takes some milliseconds."""
    trim = trimmer()
    while trim is not None:
        await asyncio.sleep(_PERIOD_S)
        await to_thread.run_sync(trim, 0)
