# SPDX-License-Identifier: Apache-2.0
"""Accounts of the site's readers, and the file that names them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from monailabel_app.common.door import is_name
from monailabel_app.errors import SettingsError
from monailabel_app.security.roles import Role

MIN_TOKEN_CHARACTERS = 16
DEFAULT_ROLE = Role.READER
_ROLES = ", ".join(role.value for role in Role)


@dataclass(frozen=True)
class Account:
    """One reader.

    Attributes:
        digest: of the token (:func:`digest_of`); the token itself is not kept.
        role: what the reader may do.
        is_role_given: whether somebody said so, rather than the default.
        takes_any_name: whoever sends the token is this reader, whatever name comes with it.
    """

    digest: bytes
    role: Role = DEFAULT_ROLE
    is_role_given: bool = False
    takes_any_name: bool = False


def digest_of(token: str) -> bytes:
    """What of a token is kept and compared: equally long for every token, also for no valid one."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def account_of(name: str, token: str, role: Role | None = None) -> Account:
    """The account of a token.

    Raises:
        SettingsError: if the token is too short to resist guessing.
    """
    if len(token) < MIN_TOKEN_CHARACTERS:
        raise SettingsError(
            f"The token of {name!r} has {len(token)} characters; expected "
            f"{MIN_TOKEN_CHARACTERS} or more, e.g. from: openssl rand -hex 24"
        )
    return Account(digest_of(token), role or DEFAULT_ROLE, role is not None)


class TokenFile:
    """``name:token`` or ``name:token:role`` lines, readable by their owner only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_as: tuple[int, ...] | None = None

    def is_changed(self) -> bool:
        """Whether the file is another one than was read last; a missing one is not."""
        try:
            return _identity(self._path.stat()) != self._read_as
        except OSError:
            return False

    def read(self) -> Mapping[str, Account]:
        """The accounts by name.

        Raises:
            SettingsError: if the file or a line of it cannot be used; no token is repeated.
        """
        try:
            status = self._path.stat()
            self._read_as = _identity(status)
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"The token file {self._path} cannot be read ({type(error).__name__})."
            ) from error
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SettingsError(
                f"The token file {self._path} can be read by others; run: chmod 600 {self._path}"
            )
        return self._accounts(lines)

    def _accounts(self, lines: Iterable[str]) -> dict[str, Account]:
        accounts: dict[str, Account] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            name, token, role = self._parts(number, line)
            if name in accounts or any(digest_of(token) == a.digest for a in accounts.values()):
                raise self._fault(number, "each name and each token once")
            accounts[name] = account_of(name, token, role)
        if not accounts:
            raise SettingsError(
                f"The token file {self._path} names no reader; expected name:token lines."
            )
        return accounts

    def _parts(self, number: int, line: str) -> tuple[str, str, Role | None]:
        parts = [part.strip() for part in line.split(":")]
        if len(parts) not in (2, 3) or not is_name(parts[0]) or not all(parts[1:]):
            raise self._fault(number, "name:token or name:token:role, without further colons")
        if len(parts) == 2:
            return parts[0], parts[1], None
        if parts[2] not in {role.value for role in Role}:
            raise self._fault(
                number, f"one of {_ROLES} after the second colon; a token holds no colon"
            )
        return parts[0], parts[1], Role(parts[2])

    def _fault(self, number: int, expected: str) -> SettingsError:
        return SettingsError(
            f"Line {number} of the token file {self._path} cannot be used; expected {expected}."
        )


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)
