# SPDX-License-Identifier: Apache-2.0
"""The site's readers and their tokens, and the sessions that a login opens."""

from __future__ import annotations

import hashlib
import hmac
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from itsdangerous import BadSignature, URLSafeTimedSerializer

from monailabel_app.errors import SettingsError
from monailabel_app.security.settings import SecuritySettings

SINGLE_READER = "reader"
MIN_TOKEN_CHARACTERS = 16
_SALT = "medreasoner.session"


@dataclass(frozen=True)
class Reader:
    """Who is logged in; ``is_authenticated`` and ``display_name`` are what Starlette reads."""

    display_name: str
    is_authenticated: bool = True


class Readers:
    """Checks tokens and signs sessions.

    Sessions are signed with a key made of all tokens, so a changed file ends them all.

    Args:
        tokens: by the reader's name.
        session_seconds: how long a session lasts.

    Raises:
        SettingsError: if a token is too short to resist guessing.
    """

    def __init__(self, tokens: Mapping[str, str], session_seconds: float) -> None:
        for name, token in tokens.items():
            if len(token) < MIN_TOKEN_CHARACTERS:
                raise SettingsError(
                    f"The token of {name!r} has {len(token)} characters; expected "
                    f"{MIN_TOKEN_CHARACTERS} or more, e.g. from: openssl rand -hex 24"
                )
        self._tokens = dict(tokens)
        self._session_seconds = session_seconds
        key = hashlib.sha256("\n".join(sorted(tokens.values())).encode()).hexdigest()
        self._signer = URLSafeTimedSerializer(key, salt=_SALT)

    @classmethod
    def of(cls, settings: SecuritySettings) -> Readers | None:
        """The readers that the settings name, ``None`` if nobody has to log in.

        Raises:
            SettingsError: if the file cannot be used.
        """
        if not settings.asks_for_login:
            return None
        tokens = {}
        if settings.token is not None:
            tokens[SINGLE_READER] = settings.token.get_secret_value()
        if settings.token_file is not None:
            tokens |= _read_tokens(settings.token_file.expanduser())
        return cls(tokens, settings.session_hours * 3600)

    def by_token(self, token: str, name: str | None = None) -> Reader | None:
        """The reader whose token this is.

        Args:
            name: restricts it to that reader, except where the site has a single token.
        """
        found = None
        for reader, known in self._tokens.items():
            # Every token is compared, so that the time tells nothing about which one is close.
            if hmac.compare_digest(known.encode(), token.encode()):
                found = reader
        if found is None or (name and found not in (name, SINGLE_READER)):
            return None
        return Reader(found)

    def open_session(self, reader: Reader) -> str:
        """A signed text that :meth:`by_session` accepts until it expires."""
        return self._signer.dumps(reader.display_name)

    def by_session(self, session: str) -> Reader | None:
        """Whose session this is, ``None`` if it was not signed here or has expired."""
        try:
            name = self._signer.loads(session, max_age=int(self._session_seconds))
        except BadSignature:
            return None
        return Reader(name) if name in self._tokens else None


def _read_tokens(path: Path) -> dict[str, str]:
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The token file {path} cannot be read ({type(error).__name__})."
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(f"The token file {path} can be read by others; run: chmod 600 {path}")
    tokens = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, found, token = (part.strip() for part in line.partition(":"))
        if not found or not name or not token or name in tokens:
            raise SettingsError(
                f"Line {number} of the token file {path} cannot be used; expected name:token, "
                "each name once."
            )
        tokens[name] = token
    if not tokens:
        raise SettingsError(f"The token file {path} names no reader; expected name:token lines.")
    return tokens
