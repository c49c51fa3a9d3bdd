# SPDX-License-Identifier: Apache-2.0
"""Images that a viewer sent to ask about, kept for a while beside the studies, never among them.

MONAI Label's own keeps them by the client's file names, unpacks archives, and reads what it keeps
back from files that anybody may have changed.
"""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging.formats import ImageFormat, identify
from monailabel_app.errors import ServerBusyError, UnknownSessionError

MAX_SESSIONS = 64
MAX_SESSIONS_PER_READER = 8
MAX_FILES = 4000
MAX_EXPIRY_S = 24 * 3600

Clock = Callable[[], float]


@dataclass(frozen=True)
class Session:
    """One image that was sent; times are seconds since the epoch.

    Attributes:
        id: which the server made; whoever knows it may use it, if the same reader is logged in.
        image: the file, or the folder of the DICOM series.
        owner: the reader who sent it, ``None`` without login.
        expiry_s: how long it is kept after it was used last.
    """

    id: str
    image: Path
    owner: str | None
    created_at: float
    used_at: float
    expiry_s: int

    def to_dict(self) -> dict[str, object]:
        """As MONAI Label tells of a session, without the server's paths."""
        return {
            "name": self.id,
            "image": self.image.name,
            "meta": {},
            "create_ts": int(self.created_at),
            "last_access_ts": int(self.used_at),
            "expiry": self.expiry_s,
        }


class Sessions:
    """The sessions of one server; they end with it.

    Args:
        folder: of one server alone.
        expiry_s: how long an image is kept after its last use.
        forget: is told the path of each image that is kept no longer.
    """

    def __init__(
        self,
        folder: Path,
        expiry_s: int = 3600,
        clock: Clock = time.time,
        forget: Callable[[Path], object] = lambda path: None,
    ) -> None:
        self._folder = folder
        self._expiry_s = expiry_s
        self._clock = clock
        self._forget = forget
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def clear(self) -> None:
        """Remove what an earlier server left behind."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def create(
        self, contents: Iterable[IO[bytes]], owner: str | None, expiry_s: int | None = None
    ) -> Session:
        """Keep an image: one file, or all files of a DICOM series.

        Raises:
            InputError: if there is no file, or one is of no format that is read here.
            ServerBusyError: if too many sessions are kept already.
        """
        self._make_room(owner)
        session_id = uuid.uuid4().hex
        folder = self._folder / session_id
        folder.mkdir(parents=True, mode=0o700)
        try:
            image = _store(contents, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        now = self._clock()
        kept_s = min(expiry_s or self._expiry_s, MAX_EXPIRY_S)
        session = Session(session_id, image, owner, now, now, kept_s)
        with self._lock:
            self._sessions[session_id] = session
        return session

    def get(self, session_id: str, owner: str | None, *, use: bool = True) -> Session:
        """The session of that id.

        Args:
            use: counts as its last use.

        Raises:
            UnknownSessionError: if it has expired, never existed, or is another reader's.
        """
        self.remove_expired()
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None or session.owner != owner:
                raise UnknownSessionError(
                    "There is no such session; it may have expired. Start a new one."
                )
            if use:
                session = replace(session, used_at=self._clock())
                self._sessions[session_id] = session
        return session

    def remove(self, session_id: str, owner: str | None) -> Session:
        """End a session.

        Raises:
            UnknownSessionError: as :meth:`get`.
        """
        session = self.get(session_id, owner, use=False)
        self._drop([session])
        return session

    def remove_expired(self) -> int:
        """End what was not used for long; MONAI Label asks for it every few minutes.

        Returns:
            How many there were.
        """
        now = self._clock()
        with self._lock:
            # A clock that was set back keeps nothing for ever.
            expired = [
                session
                for session in self._sessions.values()
                if not 0 <= now - session.used_at <= session.expiry_s
            ]
        self._drop(expired)
        return len(expired)

    def _make_room(self, owner: str | None) -> None:
        """A reader's oldest session makes room for a new one; other readers' never do."""
        self.remove_expired()
        with self._lock:
            own = [session for session in self._sessions.values() if session.owner == owner]
            total = len(self._sessions)
        oldest_first = sorted(own, key=lambda session: session.used_at)
        dropped = oldest_first[: max(0, len(own) - MAX_SESSIONS_PER_READER + 1)]
        if total - len(dropped) >= MAX_SESSIONS:
            raise ServerBusyError(
                f"{total} images are kept for sessions already; end one, or try again later."
            )
        self._drop(dropped)

    def _drop(self, sessions: Iterable[Session]) -> None:
        for session in sessions:
            with self._lock:
                self._sessions.pop(session.id, None)
            self._forget(session.image)
            shutil.rmtree(self._folder / session.id, ignore_errors=True)


def _store(contents: Iterable[IO[bytes]], folder: Path) -> Path:
    files = []
    for number, content in enumerate(contents, start=1):
        if number > MAX_FILES:
            raise InputError(f"More than {MAX_FILES} files were sent; send one series.")
        files.append(_store_file(content, folder / f"{number:05d}"))
    if not files:
        raise InputError("No file was sent; send the image's file, or those of a DICOM series.")
    if len(files) == 1:
        return files[0]
    if any(not file.name.endswith(ImageFormat.DICOM.suffix) for file in files):
        raise InputError("Several files were sent that are no DICOM series; send one image.")
    return folder


def _store_file(content: IO[bytes], path: Path) -> Path:
    with path.open("xb") as file:
        shutil.copyfileobj(content, file)
    named = path.with_name(path.name + identify(path).suffix)
    path.rename(named)
    return named
