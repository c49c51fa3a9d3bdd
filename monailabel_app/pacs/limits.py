# SPDX-License-Identifier: Apache-2.0
"""How long a PACS is waited for, and how much is taken from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import requests

from monailabel_app.common.waiting import caller_has_left


class AnswerTooLongError(requests.RequestException):
    """The server sent more than may be taken from it."""


@dataclass(frozen=True)
class PacsLimits:
    """Limits of the server's own requests; times in seconds.

    Attributes:
        connect_s: until a connection stands.
        silence_s: without a byte.
        answer_s: from a request to the end of its answer, whatever arrives meanwhile.
        answer_bytes: of an answer to a search, of metadata, and of the results of one series.
        list_s: for a whole list of series, which takes several requests.
        patience_s: that a caller waits for a list; see ``KeptAnswer`` in ``common.waiting``.
        listed: series of a list.
        series_s: for all of a series.
        series_bytes: of a series; it is kept on disk, not in memory.
        instances: of a series.
        fetches: series that are fetched at a time.
    """

    connect_s: float = 10.0
    silence_s: float = 60.0
    answer_s: float = 120.0
    answer_bytes: int = 256 << 20
    list_s: float = 120.0
    patience_s: float = 5.0
    listed: int = 100_000
    series_s: float = 1800.0
    series_bytes: int = 8 << 30
    instances: int = 50_000
    fetches: int = 8


PACS_LIMITS = PacsLimits()


@dataclass(frozen=True)
class Exchange:
    """What goes for the requests of one piece of work.

    Attributes:
        deadline: by ``time.monotonic()``, for all of them; ``None`` where each has its own.
        most_bytes: of each answer.
        scratch: folder for an answer that is too long for memory.
        cancelled: whether nobody waits for it any more.
    """

    deadline: float | None = None
    most_bytes: int | None = None
    scratch: Path | None = None
    cancelled: Callable[[], bool] = caller_has_left


_EXCHANGE: ContextVar[Exchange | None] = ContextVar("medreasoner_exchange", default=None)


def current_exchange() -> Exchange:
    """What goes for the requests of this thread."""
    return _EXCHANGE.get() or Exchange()


@contextmanager
def exchange(
    total_s: float, most_bytes: int | None = None, scratch: Path | None = None
) -> Iterator[None]:
    """Bound all requests within the block; a block within another ends no later than that."""
    outer = current_exchange()
    deadline = time.monotonic() + total_s
    if outer.deadline is not None:
        deadline = min(deadline, outer.deadline)
    token = _EXCHANGE.set(Exchange(deadline, most_bytes or outer.most_bytes, scratch))
    try:
        yield
    finally:
        _EXCHANGE.reset(token)
