# SPDX-License-Identifier: Apache-2.0
"""The reasoner of the candidate that is live now, without a restart of the server."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medreasoner_infer.errors import MedReasonerError, ModelUnavailableError
from medreasoner_infer.models.store.candidate import Candidate
from medreasoner_infer.models.store.pointer import Stamp
from medreasoner_infer.models.store.store import ReasonerStore

if TYPE_CHECKING:
    from medreasoner_infer.reasoners.base import Reasoner

logger = logging.getLogger(__name__)

RETRY_S = 60.0


@dataclass(frozen=True)
class _Loaded:
    """A reasoner, the state of ``live.json`` it answers for, and why it is not that one's own."""

    reasoner: Reasoner
    stamp: Stamp | None
    failure: MedReasonerError | None = None
    retry_at_s: float = math.inf


class LiveReasoner:
    """Gives the live reasoner, and loads it when ``live.json`` was replaced.

    The caller that finds the replacement loads the new reasoner and gets it; other threads get
    the old one meanwhile. While both are held, both need memory. If the new one cannot be
    loaded, the old one stays and the reason is logged and kept in :attr:`failure`. A fault of the
    model stays until another one is promoted; any other is tried again after a minute.

    Args:
        store: says which candidate is live.
        load: makes a candidate's reasoner, and for ``None`` the one that answers while no
            candidate is live.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: ReasonerStore,
        load: Callable[[Candidate | None], Reasoner],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._load = load
        self._clock = clock
        self._loading = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    def failure(self) -> MedReasonerError | None:
        """Why the live candidate does not answer although it should; ``None`` if it does."""
        return None if self._loaded is None else self._loaded.failure

    def __call__(self) -> Reasoner:
        """The reasoner for the next question. Hold on to it for all of that question.

        Raises:
            MedReasonerError: if the first reasoner cannot be loaded; there is no other to use.
        """
        loaded = self._loaded
        if loaded is None:
            return self._load_first()
        if self._is_current(loaded) or not self._loading.acquire(blocking=False):
            return loaded.reasoner
        try:
            # Another thread may have reloaded before this one got the lock.
            loaded = self._loaded or loaded
            return loaded.reasoner if self._is_current(loaded) else self._reload(loaded).reasoner
        finally:
            self._loading.release()

    def _is_current(self, loaded: _Loaded) -> bool:
        return loaded.stamp == self._store.live_stamp() and self._clock() < loaded.retry_at_s

    def _load_first(self) -> Reasoner:
        with self._loading:
            if self._loaded is None:
                # The stamp first: a switch in between is then seen at the next question.
                stamp = self._store.live_stamp()
                self._loaded = _Loaded(self._load(self._store.live()), stamp)
            return self._loaded.reasoner

    def _reload(self, loaded: _Loaded) -> _Loaded:
        """Replace what is loaded, if that succeeds; the caller holds the lock."""
        stamp = self._store.live_stamp()
        try:
            self._loaded = _Loaded(self._load(self._store.live()), stamp)
        except MedReasonerError as error:
            permanent = isinstance(error, ModelUnavailableError)
            retry_at_s = math.inf if permanent else self._clock() + RETRY_S
            self._loaded = _Loaded(loaded.reasoner, stamp, error, retry_at_s)
            logger.error(
                "The live reasoner could not be loaded (%s: %s); %s answers further.",
                type(error).__name__,
                error,
                loaded.reasoner.identity.name,
            )
        return self._loaded
