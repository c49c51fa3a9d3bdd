# SPDX-License-Identifier: Apache-2.0
"""Seconds spent per stage of one inference."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up wall-clock seconds by stage; stages may be entered several times."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block for ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._stages[name] = self._stages.get(name, 0.0) + time.perf_counter() - start

    def timings_s(self) -> dict[str, float]:
        """Seconds by stage, and ``total`` since the stopwatch was made, to the millisecond."""
        total = time.perf_counter() - self._start
        return {name: round(s, 3) for name, s in (*self._stages.items(), ("total", total))}
