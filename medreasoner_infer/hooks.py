# SPDX-License-Identifier: Apache-2.0
"""How a caller follows an inference and stops it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medreasoner_infer.errors import CancelledError

OnText = Callable[[str], None]
Progress = Callable[[str, int, int], None]
Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class Hooks:
    """The caller's callbacks, each optional.

    Attributes:
        on_text: receives the reasoner's text piece by piece as it is generated.
        progress: receives (stage, done, total); stages are ``search`` and ``propagate``.
        cancelled: polled often; once it returns true, :class:`CancelledError` is raised.
    """

    on_text: OnText | None = None
    progress: Progress | None = None
    cancelled: Cancelled | None = None

    def report(self, stage: str, done: int, total: int) -> None:
        """Tell the caller how far a stage is."""
        if self.progress is not None:
            self.progress(stage, done, total)

    def raise_if_cancelled(self) -> None:
        """Stop here if the caller wants so.

        Raises:
            CancelledError: in that case.
        """
        if self.cancelled is not None and self.cancelled():
            raise CancelledError("The inference was cancelled by the caller.")
