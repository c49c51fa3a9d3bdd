# SPDX-License-Identifier: Apache-2.0
"""Several servers of one model: each question goes to one that is well."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from medreasoner_infer.errors import ReasonerUnreachableError, ServiceError
from medreasoner_infer.reasoners.vllm_server import VllmServer

logger = logging.getLogger(__name__)

RECHECK_S = 10.0
# A question whose server failed is put to so many others, as it may be what the server failed of.
OTHERS = 1
# An image stays with its server while that one has so many questions more than the idlest.
LOYALTY = 4

T = TypeVar("T")


@dataclass(eq=False)
class _Replica:
    """One server; without ``server`` it was never found well."""

    address: str
    server: VllmServer | None
    is_up: bool
    asked: int = 0
    recheck_at_s: float = 0.0
    rechecking: bool = False


class Replicas:
    """Chooses a server for each question: that of its image, whose cache knows it, or the idlest.

    A server that fails is left aside, and asked for its models again after a while; only one that
    still serves what the others serve comes back. Where none is well, all are tried. A single
    server is always asked. Safe to use from several threads.

    Args:
        addresses: of the servers, without credentials.
        connect: finds that the server of an address serves the model, or raises a
            :class:`~medreasoner_infer.errors.ServiceError`.
        recheck_s: how long a server is left aside, in seconds; by default ``RECHECK_S``.

    Attributes:
        reference: the server that the others must equal.

    Raises:
        ServiceError: if no server is well; what the first of them said.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        connect: Callable[[str], VllmServer],
        *,
        recheck_s: float | None = None,
    ) -> None:
        self._connect = connect
        self._recheck_s = RECHECK_S if recheck_s is None else recheck_s
        self._changing = threading.Lock()
        self._replicas: list[_Replica] = []
        self.reference = self._connect_all(addresses)

    def _connect_all(self, addresses: Sequence[str]) -> VllmServer:
        reference: VllmServer | None = None
        faults: list[ServiceError] = []
        for address in addresses:
            try:
                server = self._equal(self._connect(address), reference)
            except ServiceError as error:
                faults.append(error)
                if len(addresses) > 1:
                    logger.warning("A replica of the reasoner is left aside: %s", error)
                due_s = time.monotonic() + self._recheck_s
                self._replicas.append(_Replica(address, None, False, recheck_at_s=due_s))
            else:
                reference = reference or server
                self._replicas.append(_Replica(address, server, True))
        if reference is None:
            raise faults[0]
        return reference

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of all servers, well or not."""
        return tuple(replica.address for replica in self._replicas)

    @property
    def up(self) -> int:
        """How many servers are not left aside."""
        with self._changing:
            return sum(replica.is_up for replica in self._replicas)

    def ask(
        self,
        image_key: str,
        work: Callable[[VllmServer], T],
        may_begin_anew: Callable[[], bool] = lambda: True,
    ) -> T:
        """What ``work`` returns of a server, of another one if that fails.

        Args:
            image_key: questions of one image go to one server as far as they can; "" to any.
            work: puts the question.
            may_begin_anew: whether nothing of a broken answer was told yet.

        Raises:
            ReasonerUnreachableError: if the servers that were asked fail.
            Exception: what ``work`` raises else, which no other server is asked for.
        """
        tried: list[_Replica] = []
        while True:
            with self._chosen(image_key, tried) as replica:
                try:
                    assert replica.server is not None  # nosec B101 # for the type checker
                    return work(replica.server)
                except ReasonerUnreachableError as error:
                    self._set_aside(replica, error)
                    tried.append(replica)
                    if len(tried) > OTHERS or not may_begin_anew() or not self._others(tried):
                        raise

    def _others(self, tried: Collection[_Replica]) -> list[_Replica]:
        return [each for each in self._replicas if each.server is not None and each not in tried]

    @contextmanager
    def _chosen(self, image_key: str, tried: Collection[_Replica]) -> Iterator[_Replica]:
        with self._changing:
            self._recheck_who_is_due()
            others = self._others(tried)
            well = [each for each in others if each.is_up] or others
            most = min(each.asked for each in well) + (LOYALTY if image_key else 0)
            near = [each for each in well if each.asked <= most]
            chosen = max(near, key=lambda each: _affinity(image_key, each.address))
            chosen.asked += 1
        try:
            yield chosen
        finally:
            with self._changing:
                chosen.asked -= 1

    def _set_aside(self, replica: _Replica, error: ReasonerUnreachableError) -> None:
        with self._changing:
            was_up, replica.is_up = replica.is_up, len(self._replicas) == 1
            replica.recheck_at_s = time.monotonic() + self._recheck_s
        if was_up and not replica.is_up:
            logger.warning("A replica of the reasoner is left aside: %s", error)

    def _recheck_who_is_due(self) -> None:
        """In threads of their own, as a machine that is off says nothing for seconds."""
        now = time.monotonic()
        for replica in self._replicas:
            if not replica.is_up and not replica.rechecking and now >= replica.recheck_at_s:
                replica.rechecking = True
                threading.Thread(
                    target=self._recheck, args=(replica,), name="medreasoner-replica", daemon=True
                ).start()

    def _recheck(self, replica: _Replica) -> None:
        server = None
        try:
            server = self._equal(self._connect(replica.address), self.reference)
        except ServiceError as error:
            logger.info("A replica of the reasoner stays aside: %s", error)
        finally:
            with self._changing:
                replica.rechecking = False
                replica.recheck_at_s = time.monotonic() + self._recheck_s
                if server is not None:
                    replica.server, replica.is_up = server, True
        if server is not None:
            logger.warning("The replica at %s is asked again.", replica.address)

    def _equal(self, server: VllmServer, reference: VllmServer | None) -> VllmServer:
        """``server``, if it serves what the reference serves.

        Raises:
            ReasonerUnreachableError: if it does not.
        """
        if reference is None or _served(server) == _served(reference):
            return server
        raise ReasonerUnreachableError(
            f"The servers at {reference.base_url} and {server.base_url} do not serve the same: "
            f"weights and --max-model-len are {_served(reference)} and {_served(server)}. Start "
            "all replicas alike."
        )


def _served(server: VllmServer) -> tuple[str | None, str | None, int | None]:
    return server.root, server.base, server.context_tokens


def _affinity(image_key: str, address: str) -> bytes:
    """By which each image has a server of its own, also when another one comes or goes."""
    return hashlib.sha256(f"{image_key}\n{address}".encode()).digest()
