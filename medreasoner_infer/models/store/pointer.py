# SPDX-License-Identifier: Apache-2.0
"""Which candidate is live: ``live.json``, the single file whose replacement is the switch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.models.store.errors import StoreDamagedError
from medreasoner_infer.models.store.history import Event

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class LiveEntry:
    """A candidate that is or was live; its ``candidate.json`` must still have this hash."""

    name: str
    candidate_sha256: str


@dataclass(frozen=True)
class LivePointer:
    """The content of ``live.json``.

    ``entries`` are the promoted candidates, the live one last; a rollback takes the last one away.
    ``event`` made it so. It is written here together with the switch and into the history after
    it, so that no crash can separate what happened from what is told.
    """

    entries: tuple[LiveEntry, ...] = ()
    event: Event | None = None

    @property
    def live(self) -> LiveEntry | None:
        """The candidate that answers, if any."""
        return self.entries[-1] if self.entries else None

    @classmethod
    def read(cls, path: Path) -> LivePointer:
        """Read ``live.json``; without one nothing is live.

        Raises:
            StoreDamagedError: if it is not what this library writes.
        """
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            entries = tuple(LiveEntry(**entry) for entry in fields["entries"])
            return cls(entries, Event.from_dict(fields["event"]))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreDamagedError(
                f"{path} cannot be read ({type(error).__name__}). Restore it from a backup; "
                "history.jsonl beside it tells which candidate was live."
            ) from error

    def write(self, path: Path) -> None:
        """Make this the live state, at one stroke."""
        write_durably(path, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def stamp_of(path: Path) -> Stamp | None:
    """Changes whenever the file is replaced; ``None`` while there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
