# SPDX-License-Identifier: Apache-2.0
"""Waiting for what another thread does."""

from __future__ import annotations

import threading
from collections.abc import Callable

WAIT_S = 30


def eventually(reached: Callable[[], bool]) -> None:
    """Return once it is so.

    Raises:
        AssertionError: it is not within ``WAIT_S``.
    """
    for _ in range(WAIT_S * 200):
        if reached():
            return
        threading.Event().wait(0.005)
    raise AssertionError("It did not come to that.")
