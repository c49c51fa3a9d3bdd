# SPDX-License-Identifier: Apache-2.0
"""How often somebody may guess a token: failures are counted, successes are not.

A failure counts for the address together with the account's name, for the address, and in total.
Whoever failed as often as allowed waits before anything of theirs is compared again. Where the
address or everybody together failed far more often (names are being tried in turn), each name has
one failure a minute left. So who comes with the right token passes, also from an address that a
whole clinic shares with somebody who guesses.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

from cachetools import LRUCache
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from monailabel_app.security.accounts import Accounts, LoggedIn

_PER_ADDRESS, _IN_TOTAL = 10, 100
_REMEMBERED = 10_000
_MIN_WAIT_S = 1.0


class TooManyGuessesError(Exception):
    """Nothing of this caller is compared before ``wait_s`` seconds have passed."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("Too many failed logins; wait before you try again.")
        self.wait_s = wait_s


class GuessLimits:
    """Counts failures.

    Args:
        per_minute: for an address with one account's name; ten times that for the address, and a
            hundred times in total, before each name is left one.
    """

    def __init__(self, per_minute: int) -> None:
        self._one = RateLimitItemPerMinute(1)
        self._few = RateLimitItemPerMinute(per_minute)
        self._many = RateLimitItemPerMinute(per_minute * _PER_ADDRESS)
        self._all = RateLimitItemPerMinute(per_minute * _IN_TOTAL)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def wait_s(self, address: str, name: str | None) -> float:
        """How long until the next attempt may be compared; 0 now."""
        key = _key(address, name)
        attacked = not (
            self._limiter.test(self._many, "guess", address)
            and self._limiter.test(self._all, "guess")
        )
        item = self._one if attacked else self._few
        return 0.0 if self._limiter.test(item, "guess", key) else self._until_free(item, key)

    def count(self, address: str, name: str | None) -> None:
        """Count a failure."""
        key = _key(address, name)
        for item, words in (
            (self._one, (key,)), (self._few, (key,)), (self._many, (address,)), (self._all, ()),
        ):  # fmt: skip
            self._limiter.hit(item, "guess", *words)

    def _until_free(self, item: RateLimitItem, key: str) -> float:
        reset_at_s = self._limiter.get_window_stats(item, "guess", key).reset_time
        return max(_MIN_WAIT_S, reset_at_s - time.time())


class Logins:
    """Finds out whose token a caller sends, and slows guessing down.

    A token that was right at an address is remembered, so that who used it there goes on working
    while somebody else at that address guesses.
    """

    def __init__(self, accounts: Accounts, limits: GuessLimits) -> None:
        self._accounts = accounts
        self._limits = limits
        self._salt = secrets.token_bytes(32)
        self._proven: LRUCache[bytes, None] = LRUCache(_REMEMBERED)

    def log_in(self, address: str, token: str, name: str | None = None) -> LoggedIn | None:
        """The reader whose token this is, ``None`` if it is nobody's.

        Raises:
            TooManyGuessesError: if it may not be compared now.
        """
        mark = self._mark(address, name, token)
        if mark not in self._proven and (wait_s := self._limits.wait_s(address, name)):
            raise TooManyGuessesError(wait_s)
        reader = self._accounts.by_token(token, name or None)
        if reader is None:
            self._proven.pop(mark, None)
            self._limits.count(address, name)
        else:
            self._proven[mark] = None
        return reader

    def refuse_forged(self, address: str) -> None:
        """Count a session that was not signed here.

        Raises:
            TooManyGuessesError: if there were too many already.
        """
        kind = "\0session"
        if wait_s := self._limits.wait_s(address, kind):
            raise TooManyGuessesError(wait_s)
        self._limits.count(address, kind)

    def _mark(self, *words: str | None) -> bytes:
        text = repr(words).encode("utf-8", "surrogatepass")
        return hmac.digest(self._salt, text, "sha256")


def _key(address: str, name: str | None) -> str:
    """Short whatever the caller calls themselves, and not to be read in a memory dump."""
    text = repr((address, name or None)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:24]
