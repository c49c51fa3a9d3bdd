# SPDX-License-Identifier: Apache-2.0
"""No more questions per minute than a PACS or a shared reasoner bears."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_T = TypeVar("_T")


def paced(
    items: Iterable[_T],
    per_minute: float | None,
    cost: Callable[[_T], int] = lambda _: 1,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[_T]:
    """The same items, each as long after the one before as that one costs.

    Time that passes otherwise is not made up for, so that no burst follows a pause.

    Args:
        items: what is given out.
        per_minute: what may be spent at most; ``None`` for no bound.
        cost: of an item.
        clock: seconds that never go back.
        sleep: waits so many seconds.
    """
    free_at = clock()
    for item in items:
        if per_minute is not None:
            if (wait := free_at - clock()) > 0:
                sleep(wait)
            free_at = clock() + 60 * cost(item) / per_minute
        yield item
