# SPDX-License-Identifier: Apache-2.0
"""How many candidates were compared with a live model: ``attempts.jsonl``, one a line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from medreasoner_infer.models.store.lines import append_line, read_lines


@dataclass(frozen=True)
class Attempt:
    """A first look at what a candidate answers on held-out patients.

    Attributes:
        at: ISO 8601 with offset.
        anchor: who was live; what the candidate is compared with.
        run: whose candidate it is; looking again is no further attempt.
        candidate: its name.
    """

    at: str
    anchor: str
    run: str
    candidate: str


def read_attempts(path: Path) -> tuple[Attempt, ...]:
    """All attempts, oldest first.

    Raises:
        StoreDamagedError: if a line is none.
    """
    return read_lines(path, lambda fields: Attempt(**fields), "attempt")


def append_attempt(path: Path, attempt: Attempt) -> None:
    """Add one line and wait until the disk has it; call it under the store's lock only."""
    append_line(path, asdict(attempt))


def number_of(attempts: tuple[Attempt, ...], anchor: str, run: str | None) -> int:
    """The number of a run's attempt against ``anchor``, from 1; the next one if it made none."""
    runs = list(dict.fromkeys(each.run for each in attempts if each.anchor == anchor))
    return runs.index(run) + 1 if run in runs else len(runs) + 1
