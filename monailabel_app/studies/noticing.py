# SPDX-License-Identifier: Apache-2.0
"""Noticing that files of a folder come and go, and looking through it once for many of them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

logger = logging.getLogger(__name__)

_SETTLED_S = 0.3
_AT_LATEST_S = 5.0
_NO_CHANGE = ("opened", "closed_no_write")


class LookAgain:
    """Looks once after many changes: when they have settled, or after a while where they go on.

    Args:
        look: is called in a thread of its own, one call at a time, and raises nothing.
        settled_s: seconds without a change after which they have.
        at_latest_s: seconds of changes after which it is looked all the same.
    """

    def __init__(
        self,
        look: Callable[[], None],
        settled_s: float = _SETTLED_S,
        at_latest_s: float = _AT_LATEST_S,
    ) -> None:
        self._look = look
        self._settled_s, self._at_latest_s = settled_s, at_latest_s
        self._changing = threading.Lock()
        self._changed_at = 0.0
        self._is_looking = False

    def changed(self) -> None:
        """Something has changed; returns at once."""
        with self._changing:
            self._changed_at = time.monotonic()
            if self._is_looking:
                return
            self._is_looking = True
        threading.Thread(target=self._go_on, name="look-again", daemon=True).start()

    def _go_on(self) -> None:
        is_up_to_date = False
        while not is_up_to_date:
            seen = self._settled()
            self._look()
            with self._changing:
                is_up_to_date = seen == self._changed_at
                self._is_looking = not is_up_to_date

    def _settled(self) -> float:
        """Wait; returns the time of the last change by then."""
        latest = time.monotonic() + self._at_latest_s
        while True:
            with self._changing:
                changed_at = self._changed_at
            left_s = min(changed_at + self._settled_s, latest) - time.monotonic()
            if left_s <= 0:
                return changed_at
            time.sleep(left_s)


def watch(
    folder: Path, changed: Callable[[list[Path]], None], *, polling: bool = False
) -> BaseObserver:
    """Start to tell of everything that changes below a folder; see :class:`ChangesBelow`.

    Args:
        polling: look every second, as for a file system of another machine, of which this one is
            not told. So it is also done where the system gives out no more watches.
    """
    observer: BaseObserver = PollingObserver() if polling else Observer()
    try:
        observer.schedule(ChangesBelow(folder, changed), str(folder), recursive=True)
        observer.start()
    except OSError as error:
        if polling:
            raise
        logger.warning(
            "The system watches no more folders (%s); the studies are looked at every second. "
            "Raise fs.inotify.max_user_instances and max_user_watches.", error.strerror,
        )  # fmt: skip
        return watch(folder, changed, polling=True)
    return observer


class ChangesBelow(FileSystemEventHandler):
    """Tells of everything that changes below a folder but hidden files and what is in hidden ones.

    Args:
        folder: as the observer names it.
        changed: is given the paths of each change, as seen from the folder.
    """

    def __init__(self, folder: Path, changed: Callable[[list[Path]], None]) -> None:
        self._folder = folder
        self._changed = changed

    def on_any_event(self, event: FileSystemEvent) -> None:
        """As watchdog calls it."""
        if event.event_type in _NO_CHANGE or (
            event.is_directory and event.event_type == "modified"
        ):
            return
        named = [os.fsdecode(path) for path in (event.src_path, event.dest_path) if path]
        places = [Path(os.path.relpath(path, self._folder)) for path in named]
        shown = [place for place in places if not any(p.startswith(".") for p in place.parts)]
        if shown:
            self._changed(shown)
