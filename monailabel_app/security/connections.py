# SPDX-License-Identifier: Apache-2.0
"""How many connections there may be, how long each may take, and whose place a new one takes.

uvicorn waits for ever for the rest of a header, and accepts connections until the process has no
file handles left; then nobody is answered. Here a connection that still waits for its client gives
way to a new one where there are too many, the oldest first, and every wait for a client ends.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from monailabel_app.security.addresses import counted_as, is_within


class Phase(enum.Enum):
    """What a connection waits for."""

    HEAD = "the rest of a request's header"
    BODY = "the rest of a request's body"
    ANSWER = "our answer"
    DRAIN = "the rest of a body that is answered already"
    IDLE = "the next request"
    CLOSING = "the client to read what is left"


_WAITS_FOR_CLIENT = frozenset({Phase.HEAD, Phase.IDLE, Phase.DRAIN, Phase.CLOSING})


@dataclass(frozen=True)
class ConnectionLimits:
    """Numbers and times; all times are of waiting for the client alone.

    Attributes:
        total: connections at a time.
        per_address: of them from one address.
        head_s: from the first moment of a connection, or the first byte of a further request, to
            the end of its header.
        idle_s: between requests.
        body_s: for a body, besides ``1 / body_bytes_per_s`` for each byte of it that came.
        body_bytes_per_s: the slowest body in the long run.
        unread_s: for a client to read more of an answer.
        linger_s: for a client to take notice of an answer that ends the connection.
        proxies: addresses or networks that stand for many clients, which ``per_address`` spares.
    """

    total: int = 1024
    per_address: int = 256
    head_s: float = 10.0
    idle_s: float = 30.0
    body_s: float = 20.0
    body_bytes_per_s: float = 8192.0
    unread_s: float = 30.0
    linger_s: float = 5.0
    proxies: Sequence[str] = ()


class Connection(Protocol):
    """What :class:`Connections` needs to know of one."""

    address: str
    phase: Phase
    since_s: float

    @property
    def is_known(self) -> bool:
        """Whether the client has logged in with the request that it is sending."""
        ...

    def drop(self) -> None:
        """End it at once."""
        ...


class Connections:
    """All connections of one server.

    Args:
        limits: see there.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, new: Connection) -> bool:
        """Take a connection in, if need be in the place of one that waits for its client."""
        own = [known for known in self._open if known.address == new.address]
        if len(own) >= self.limits.per_address and not self._is_proxy(new.address):
            victim = _longest_waiting(own)
        elif len(self._open) >= self.limits.total:
            victim = _longest_waiting(_of_busiest_address(self._open))
        else:
            self._open[new] = None
            return True
        if victim is None:
            return False
        self.forget(victim)
        victim.drop()
        self._open[new] = None
        return True

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        self._open.pop(connection, None)

    def _is_proxy(self, address: str) -> bool:
        return is_within(address, self.limits.proxies)


def address_of_peer(peer: tuple[str, int] | None) -> str:
    """The address that a connection is counted by; a Unix socket's is one for all."""
    return counted_as(peer[0]) if peer else counted_as("")


def gives_way(connection: Connection) -> bool:
    """Whether it waits for a client of whom nobody knows that they may be here."""
    if connection.phase is Phase.BODY:
        return not connection.is_known
    return connection.phase in _WAITS_FOR_CLIENT


def _of_busiest_address(connections: Iterable[Connection]) -> list[Connection]:
    waiting = [known for known in connections if gives_way(known)]
    counted = Counter(known.address for known in waiting).most_common(1)
    return [known for known in waiting if known.address == counted[0][0]] if counted else []


def _longest_waiting(connections: Iterable[Connection]) -> Connection | None:
    waiting = (known for known in connections if gives_way(known))
    return min(waiting, key=lambda known: known.since_s, default=None)
