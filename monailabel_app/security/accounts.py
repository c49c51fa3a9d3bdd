# SPDX-License-Identifier: Apache-2.0
"""The site's readers: whose token or session a request carries."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from itsdangerous import BadData, URLSafeTimedSerializer

from monailabel_app.errors import SettingsError
from monailabel_app.security.roles import Role
from monailabel_app.security.sessions import Sessions
from monailabel_app.security.settings import SecuritySettings
from monailabel_app.security.token_file import (
    MIN_TOKEN_CHARACTERS,
    Account,
    TokenFile,
    account_of,
    digest_of,
)

__all__ = ["MIN_TOKEN_CHARACTERS", "SINGLE_ACCOUNT", "Accounts", "LoggedIn"]

logger = logging.getLogger(__name__)

SINGLE_ACCOUNT = "reader"
_SALT = "medreasoner.session"
_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True)
class LoggedIn:
    """Who is logged in; ``is_authenticated`` and ``display_name`` are what Starlette reads."""

    display_name: str
    role: Role
    is_authenticated: bool = True


class Accounts:
    """Checks tokens, and opens and ends sessions.

    A session belongs to the token that opened it: it ends once the file no longer gives its reader
    that token. What the reader may do is looked up with each request.

    Args:
        accounts: by the reader's name; tokens alone stand for accounts of the default role.
        session_seconds: how long a session lasts.
        file: looked at again when it has changed, while the server runs.

    Raises:
        SettingsError: if a token is too short to resist guessing.
    """

    def __init__(
        self,
        accounts: Mapping[str, Account | str],
        session_seconds: float,
        file: TokenFile | None = None,
    ) -> None:
        self._fixed = {
            name: account_of(name, account) if isinstance(account, str) else account
            for name, account in accounts.items()
        }
        self._file = file
        self._accounts = self._fixed | dict(() if file is None else file.read())
        self._looked_at_s = time.monotonic()
        self._sessions = Sessions(session_seconds)
        digests = b"".join(sorted(account.digest for account in self._accounts.values()))
        self._signer = URLSafeTimedSerializer(hashlib.sha256(digests).hexdigest(), salt=_SALT)

    @classmethod
    def of(cls, settings: SecuritySettings) -> Accounts | None:
        """The readers that the settings name, ``None`` if nobody has to log in.

        Raises:
            SettingsError: if the file cannot be used.
        """
        if not settings.asks_for_login:
            return None
        fixed: dict[str, Account | str] = {}
        if settings.token is not None:
            account = account_of(SINGLE_ACCOUNT, settings.token.get_secret_value())
            role = settings.token_role
            fixed[SINGLE_ACCOUNT] = Account(account.digest, role, True, takes_any_name=True)
        path = settings.token_file
        file = None if path is None else TokenFile(path.expanduser())
        return cls(fixed, settings.session_hours * 3600, file)

    @property
    def roles(self) -> Mapping[str, Role]:
        """What each reader may do, by name."""
        return {name: account.role for name, account in self._current().items()}

    @property
    def without_a_role(self) -> tuple[str, ...]:
        """Whose role nobody wrote down, so that they have the default."""
        return tuple(n for n, account in self._current().items() if not account.is_role_given)

    def by_token(self, token: str, name: str | None = None) -> LoggedIn | None:
        """The reader whose token this is.

        Args:
            name: restricts it to that reader, except where the site has a single token.
        """
        digest, found = digest_of(token), None
        for reader, account in self._current().items():
            # Every token is compared, so that the time tells nothing about which one is close.
            if hmac.compare_digest(account.digest, digest):
                found = reader, account
        if found is None or (name and name != found[0] and not found[1].takes_any_name):
            return None
        return LoggedIn(found[0], found[1].role)

    def open_session(self, reader: LoggedIn) -> str:
        """A signed text that :meth:`by_session` accepts until the session ends."""
        account = self._current()[reader.display_name]
        return self._signer.dumps(self._sessions.open(reader.display_name, account.digest))

    def by_session(self, session: str) -> LoggedIn | None:
        """Whose session this is, ``None`` if it was not signed here or has ended."""
        key = self._key_of(session)
        found = None if key is None else self._sessions.find(key)
        account = None if found is None else self._current().get(found.name)
        if found is None or account is None or account.digest != found.token_digest:
            return None
        return LoggedIn(found.name, account.role)

    def is_signed(self, session: str) -> bool:
        """Whether this is or was a session, which nobody can guess, rather than a guess."""
        return self._key_of(session) is not None

    def end_session(self, session: str) -> None:
        """End a session, wherever else it is still known; anything else is passed over."""
        key = self._key_of(session)
        if key is not None:
            self._sessions.end(key)

    def _key_of(self, session: str) -> str | None:
        try:
            key = self._signer.loads(session.encode("utf-8", "surrogatepass"))
        except BadData:
            return None
        return key if isinstance(key, str) else None

    def _current(self) -> Mapping[str, Account]:
        """The accounts as the file has them now; a file that cannot be used changes nothing."""
        now_s = time.monotonic()
        if self._file is None or now_s - self._looked_at_s < _LOOK_AGAIN_S:
            return self._accounts
        self._looked_at_s = now_s
        if self._file.is_changed():
            try:
                self._accounts = self._fixed | dict(self._file.read())
                logger.info("The token file has changed; it names %d.", len(self._accounts))
            except SettingsError as error:
                logger.error("%s The readers stay as they were.", error)
        return self._accounts
