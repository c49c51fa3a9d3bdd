# SPDX-License-Identifier: Apache-2.0
"""The progress bar of commands that go through many things of one kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def shown_progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told (done, all), and is gone after the block.

    Args:
        console: on which it is shown.
        what: is counted, e.g. ``Questions``.
    """
    columns = (
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
