# SPDX-License-Identifier: Apache-2.0
"""Tables that are computed once in a process, also where several threads need them at first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


def computed_once(function: Callable[P, T]) -> Callable[P, T]:
    """As ``functools.cache``, with threads that wait for the one that computes.

    A cache alone lets all threads that come before the first is done compute the same beside each
    other, each slower for that. ``function`` must not lead back to itself by way of another thread.
    """
    cached = cache(function)
    computing = threading.RLock()

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with computing:
            return cached(*cast("tuple[Hashable, ...]", args), **cast("Any", kwargs))

    return call
