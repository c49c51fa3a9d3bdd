# SPDX-License-Identifier: Apache-2.0
"""The sessions that logins open; they live in this process and end with it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

PER_READER = 50


@dataclass(frozen=True)
class Session:
    """Of one login: whose it is, the digest of the token that opened it, and until when."""

    name: str
    token_digest: bytes
    ends_at_s: float


class Sessions:
    """Sessions by their ids; a reader's oldest ends where there are too many.

    Args:
        seconds: how long one lasts.
        per_reader: how many a reader may have at a time.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        seconds: float,
        per_reader: int = PER_READER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._per_reader = per_reader
        self._clock = clock
        self._by_id: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def open(self, name: str, token_digest: bytes) -> str:
        """Open one; its id cannot be guessed."""
        self._remove_expired()
        own = [key for key, session in self._by_id.items() if session.name == name]
        for key in own[: max(0, len(own) + 1 - self._per_reader)]:
            del self._by_id[key]
        key = secrets.token_urlsafe(32)
        self._by_id[key] = Session(name, token_digest, self._clock() + self._seconds)
        return key

    def find(self, key: str) -> Session | None:
        """The session of that id, unless it has ended."""
        session = self._by_id.get(key)
        return session if session is not None and session.ends_at_s > self._clock() else None

    def end(self, key: str) -> None:
        """End a session; one that is not known has ended."""
        self._by_id.pop(key, None)

    def _remove_expired(self) -> None:
        now_s = self._clock()
        for key in [key for key, known in self._by_id.items() if known.ends_at_s <= now_s]:
            del self._by_id[key]
