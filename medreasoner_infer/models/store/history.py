# SPDX-License-Identifier: Apache-2.0
"""What happened to the store's candidates: ``history.jsonl``, one event a line."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from medreasoner_infer.models.store.lines import append_line, read_lines

Action = Literal["promoted", "refused", "rolled back"]


@dataclass(frozen=True)
class Event:
    """One decision about a candidate.

    Attributes:
        event_id: UUID.
        at: ISO 8601 with offset.
        action: what was done.
        candidate: promoted, refused, or rolled back from.
        live: who answers after it; ``None`` is the embedded reasoner.
        by: person or program that decided.
        reasons: sentences.
    """

    event_id: str
    at: str
    action: Action
    candidate: str
    live: str | None
    by: str
    reasons: tuple[str, ...] = ()

    @classmethod
    def now(
        cls, action: Action, candidate: str, live: str | None, by: str, reasons: tuple[str, ...]
    ) -> Event:
        """An event of this moment."""
        return cls(str(uuid.uuid4()), utc_now(), action, candidate, live, by, reasons)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Event:
        """The inverse of :func:`dataclasses.asdict`.

        Raises:
            KeyError, TypeError: if fields are missing or unknown.
        """
        return cls(**{**fields, "reasons": tuple(fields["reasons"])})


def utc_now() -> str:
    """This moment in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def read_history(path: Path) -> tuple[Event, ...]:
    """All events, oldest first; a last line that a crash cut short is not one.

    Raises:
        StoreDamagedError: if any other line is no event.
    """
    return read_lines(path, Event.from_dict, "event")


def append_event(path: Path, event: Event) -> None:
    """Add one line and wait until the disk has it; call it under the store's lock only."""
    append_line(path, asdict(event))
