# SPDX-License-Identifier: Apache-2.0
"""Bounded numbers of what goes on at a time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from monailabel_app.errors import ServerBusyError


class Places:
    """A bounded number of places; who finds none is told at once.

    Args:
        most: places in total.
        most_each: places of one caller.
    """

    def __init__(self, most: int, most_each: int | None = None) -> None:
        self._most = most
        self._most_each = most if most_each is None else most_each
        self._taken: Counter[str | None] = Counter()
        self._changing = threading.Lock()

    @property
    def taken(self) -> int:
        """How many places are taken."""
        with self._changing:
            return self._taken.total()

    @contextmanager
    def place(self, caller: str | None = None) -> Iterator[None]:
        """Hold a place.

        Args:
            caller: whose place it is; where nobody has to log in, all are ``None`` and one.

        Raises:
            ServerBusyError: if there is none.
        """
        with self._changing:
            if self._taken.total() >= self._most:
                raise ServerBusyError(
                    f"The server works at {self._most} requests already and takes no more; try "
                    "again in a moment."
                )
            if caller is not None and self._taken[caller] >= self._most_each:
                raise ServerBusyError(
                    f"{self._most_each} of your requests are being worked at already; wait for one "
                    "of them or cancel it."
                )
            self._taken[caller] += 1
        try:
            yield
        finally:
            with self._changing:
                self._taken[caller] -= 1
                if not self._taken[caller]:
                    del self._taken[caller]


# Each has a thread of its own, of which a process has only so many.
WORKERS = Places(64, most_each=16)
