# SPDX-License-Identifier: Apache-2.0
"""The store of candidates and the switch between them."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.atomic import sync_folder, write_durably
from medreasoner_infer.hashing import files_sha256
from medreasoner_infer.home import models_folder
from medreasoner_infer.models.registry import EMBEDDED, LIVE, registered_models, resolve_model
from medreasoner_infer.models.store.attempts import (
    Attempt,
    append_attempt,
    number_of,
    read_attempts,
)
from medreasoner_infer.models.store.candidate import Candidate, Provenance
from medreasoner_infer.models.store.errors import (
    CandidateChangedError,
    CandidateRefusedError,
    LiveChangedError,
    NothingToRollBackError,
    UnknownCandidateError,
)
from medreasoner_infer.models.store.files import (
    CANDIDATE_FILE,
    check_files,
    copy_durably,
    kind_of_model,
    safe_model_files,
)
from medreasoner_infer.models.store.history import Event, append_event, read_history, utc_now
from medreasoner_infer.models.store.pointer import LiveEntry, LivePointer, Stamp, stamp_of

if TYPE_CHECKING:
    from filelock import BaseFileLock

ANY_LIVE = "*"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class ReasonerStore:
    """Candidates of one site; safe to use from several processes and after a crash at any moment.

    Adding and switching have a lock each, so that a rollback need not wait for a copy.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = models_folder() if folder is None else folder
        self._candidates = self.folder / "candidates"
        self._incoming = self.folder / "incoming"
        self._pointer = self.folder / "live.json"
        self._history = self.folder / "history.jsonl"
        self._attempts = self.folder / "attempts.jsonl"

    def add(self, source: Path, provenance: Provenance, *, name: str | None = None) -> Candidate:
        """Copy a model's or LoRA adapter's folder into the store.

        Args:
            source: folder as written by ``save_pretrained``; flat, safetensors only.
            provenance: where it comes from; licence and notice are inherited from its parent, else
                from its base.
            name: lower-case letters, digits, ``.``, ``_`` and ``-``; by default the moment.

        Raises:
            CandidateRefusedError: if the folder or the name cannot be taken.
            UnknownCandidateError: if the store does not hold the parent.
            UnknownModelError: if the base means nothing.
        """
        name = name or f"{utc_now()[:19]}-{uuid.uuid4().hex[:8]}".replace(":", "").lower()
        files = safe_model_files(source)
        kind = kind_of_model(files)
        licence, notice = self._inherited(provenance)
        with self._lock("add"):
            self._refuse_name(name)
            shutil.rmtree(self._incoming, ignore_errors=True)
            unfinished = self._incoming / name
            unfinished.mkdir(parents=True)
            hashes = copy_durably(files, unfinished)
            candidate = Candidate(
                name, kind, unfinished, utc_now(), provenance, licence, notice, hashes
            )
            write_durably(unfinished / CANDIDATE_FILE, candidate.to_json())
            (unfinished / CANDIDATE_FILE).chmod(0o444)
            self._candidates.mkdir(exist_ok=True)
            os.rename(unfinished, self._candidates / name)
            sync_folder(self._candidates)
        return self.candidate(name)

    def candidate(self, name: str) -> Candidate:
        """The candidate of that name; its files are not checked.

        Raises:
            UnknownCandidateError: if there is none.
            StoreDamagedError: if its ``candidate.json`` cannot be read.
        """
        if not _NAME.fullmatch(name) or not (self._candidates / name).is_dir():
            known = ", ".join(self.names()) or "none"
            raise UnknownCandidateError(
                f"{name!r} is no candidate of {self.folder}; it holds {known}."
            )
        return Candidate.read(self._candidates / name)

    def names(self) -> tuple[str, ...]:
        """The names of all candidates, sorted."""
        if not self._candidates.is_dir():
            return ()
        return tuple(sorted(path.name for path in self._candidates.iterdir()))

    def live(self) -> Candidate | None:
        """The live candidate; ``None`` while none was promoted. Its weights are not hashed here.

        Raises:
            CandidateChangedError: if its ``candidate.json`` is not the one that was promoted.
            StoreDamagedError: if ``live.json`` or ``candidate.json`` cannot be read.
        """
        entry = LivePointer.read(self._pointer).live
        return None if entry is None else self._recorded(entry)

    def live_stamp(self) -> Stamp | None:
        """Differs after every promotion and rollback; costs one ``stat``."""
        return stamp_of(self._pointer)

    def verify(self, candidate: Candidate) -> None:
        """Compare every file with its recorded hash; reads all weights.

        Raises:
            CandidateChangedError: if one differs.
        """
        check_files(candidate.folder, candidate.files_sha256)

    def promote(
        self,
        name: str,
        *,
        by: str,
        reasons: Sequence[str] = (),
        expected_live: str | None = ANY_LIVE,
    ) -> Event:
        """Make a candidate live; the live one stays if anything is wrong with it.

        Args:
            name: of the candidate.
            by: person or program that decides.
            reasons: sentences for the history.
            expected_live: which candidate the decision compared with (``None``: the embedded
                reasoner); :data:`ANY_LIVE` to promote whatever is live.

        Raises:
            UnknownCandidateError: if there is no such candidate.
            CandidateChangedError: if its files are not those that were added.
            LiveChangedError: if another model than ``expected_live`` is live.
            CandidateRefusedError: if it is live already.
        """
        candidate = self.candidate(name)
        self.verify(candidate)
        entry = LiveEntry(name, files_sha256(candidate.folder / CANDIDATE_FILE))
        with self._lock("live"):
            pointer = self._settled()
            live = None if pointer.live is None else pointer.live.name
            if expected_live not in (ANY_LIVE, live):
                raise LiveChangedError(
                    f"{name} was compared with {expected_live or 'the embedded reasoner'}, but "
                    f"{live or 'the embedded reasoner'} is live now; compare it with that one."
                )
            if live == name:
                raise CandidateRefusedError(f"{name} is live already.")
            event = Event.now("promoted", name, name, by, tuple(reasons))
            self._switch((*pointer.entries, entry), event)
        return event

    def refuse(self, name: str, *, by: str, reasons: Sequence[str]) -> Event:
        """Write down that a candidate was not promoted, and why.

        Raises:
            UnknownCandidateError: if there is no such candidate.
        """
        self.candidate(name)
        with self._lock("live"):
            pointer = self._settled()
            live = None if pointer.live is None else pointer.live.name
            event = Event.now("refused", name, live, by, tuple(reasons))
            append_event(self._history, event)
        return event

    def rollback(self, *, by: str, reasons: Sequence[str] = ()) -> Event:
        """Make live what was live before the last promotion, at the end the embedded reasoner.

        Raises:
            NothingToRollBackError: if no candidate is live.
            CandidateChangedError: if the earlier candidate's files changed; the live one stays.
        """
        with self._lock("live"):
            pointer = self._settled()
            if pointer.live is None:
                raise NothingToRollBackError("No candidate is live; the embedded reasoner answers.")
            earlier = pointer.entries[:-1]
            if earlier:
                self.verify(self._recorded(earlier[-1]))
            live = earlier[-1].name if earlier else None
            event = Event.now("rolled back", pointer.live.name, live, by, tuple(reasons))
            self._switch(earlier, event)
        return event

    def history(self) -> tuple[Event, ...]:
        """All events, oldest first.

        Raises:
            StoreDamagedError: if ``history.jsonl`` or ``live.json`` cannot be read.
        """
        # The pointer first: its event reaches the file at the latest before the next event does.
        latest = LivePointer.read(self._pointer).event
        events = read_history(self._history)
        return events if latest is None or latest in events else (*events, latest)

    def count_attempt(self, run: str, candidate: str) -> int:
        """Write down that a run's candidate was looked at on held-out patients, once.

        Attempts count by the live model alone: whatever patients they look at, so many candidates
        had their chance to replace it. A promotion begins a new count, since the question is a new
        one; after a rollback the earlier count goes on.

        Args:
            run: stands for the run; the same one keeps its number.
            candidate: its name, for people.

        Returns:
            The number of this attempt against the live model, from 1.

        Raises:
            StoreDamagedError: if ``attempts.jsonl`` or ``live.json`` cannot be read.
        """
        with self._lock("live"):
            anchor, attempts = self._anchor(), read_attempts(self._attempts)
            if not any((each.anchor, each.run) == (anchor, run) for each in attempts):
                append_attempt(self._attempts, Attempt(utc_now(), anchor, run, candidate))
            return number_of(attempts, anchor, run)

    def attempt_number(self, run: str | None = None) -> int:
        """The number that a run's attempt against the live model has or would have.

        Args:
            run: as of :meth:`count_attempt`; ``None`` for one that made none yet.

        Raises:
            StoreDamagedError: as :meth:`count_attempt`.
        """
        return number_of(read_attempts(self._attempts), self._anchor(), run)

    def _anchor(self) -> str:
        entry = LivePointer.read(self._pointer).live
        return EMBEDDED if entry is None else entry.name

    def _switch(self, entries: tuple[LiveEntry, ...], event: Event) -> None:
        LivePointer(entries, event).write(self._pointer)
        append_event(self._history, event)

    def _settled(self) -> LivePointer:
        """The pointer, after its event is surely in the history: a crash may have come between."""
        pointer = LivePointer.read(self._pointer)
        if pointer.event is not None and pointer.event not in read_history(self._history):
            append_event(self._history, pointer.event)
        return pointer

    def _recorded(self, entry: LiveEntry) -> Candidate:
        """The entry's candidate, if its ``candidate.json`` is still the one promoted."""
        candidate = self.candidate(entry.name)
        if files_sha256(candidate.folder / CANDIDATE_FILE) != entry.candidate_sha256:
            raise CandidateChangedError(
                f"{candidate.folder / CANDIDATE_FILE} was changed after {entry.name} was promoted. "
                "Restore it from a backup, or promote another candidate."
            )
        return candidate

    def _inherited(self, provenance: Provenance) -> tuple[str, str | None]:
        base = resolve_model("reasoner", provenance.base)
        if provenance.parent is None or provenance.parent in registered_models("reasoner"):
            return base.licence, base.notice
        parent = self.candidate(provenance.parent)
        return parent.licence, parent.notice

    def _refuse_name(self, name: str) -> None:
        if not _NAME.fullmatch(name) or name in registered_models("reasoner") or name == LIVE:
            raise CandidateRefusedError(
                f"{name!r} cannot name a candidate; expected up to 64 lower-case letters, digits, "
                "'.', '_' or '-', and no name of the registry."
            )
        if (self._candidates / name).exists():
            raise CandidateRefusedError(
                f"The store holds a candidate {name!r} already, and candidates never change; "
                "choose another name."
            )

    def _lock(self, name: str) -> BaseFileLock:
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f".{name}.lock")
