# SPDX-License-Identifier: Apache-2.0
"""uvicorn as ``medreasoner serve`` runs it."""

from __future__ import annotations

import asyncio
import functools
import resource
import signal
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from monailabel_app.errors import SettingsError, StartError
from monailabel_app.security.connections import ConnectionLimits, Connections
from monailabel_app.security.http_protocol import GuardedProtocol
from monailabel_app.security.settings import SecuritySettings

SHUTDOWN_S = 10
_END_ANYWAY_S = 5.0
_MOST_HANDLES = 65_536
# For files, models, the database and connections to a PACS.
_OWN_HANDLES = 256
# asyncio accepts some at a time, and has accepted as many three times more before the first of them
# are counted, and those that must give way closed. Half of what is left over is for that.
_ACCEPTED_AT_ONCE = range(8, 257)
_ROUNDS_UNCOUNTED = 4
# Connections that the system keeps until they are accepted.
_QUEUE = 2048
_HANDSHAKE_S = 10.0


@dataclass(frozen=True)
class Listening:
    """Where the server listens; certificate and key are PEM files."""

    host: str
    port: int
    certificate: Path | None = None
    certificate_key: Path | None = None

    def require_certificate(self) -> None:
        """Check that the certificate can be used, if one is given.

        Raises:
            SettingsError: it cannot.
        """
        if self.certificate is None:
            if self.certificate_key is not None:
                raise SettingsError("--certificate-key has no --certificate; give both or neither.")
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self.certificate, self.certificate_key
            )
        except OSError as error:
            key = self.certificate_key or "that it must hold without --certificate-key"
            raise SettingsError(
                f"The certificate {self.certificate} with the key {key} cannot be used "
                f"({error.strerror}); expected PEM files that belong together."
            ) from error

    def require_free(self) -> None:
        """Check that the server may listen there, which it does once all else is ready.

        Raises:
            StartError: it may not.
        """
        try:
            for family, _, _, _, address in socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                socket.create_server(address[:2], family=family).close()
        except OSError as error:
            raise StartError(
                f"The server cannot listen on {self.host}, port {self.port} ({error.strerror}). "
                "Stop what listens there, or give another --port or --host."
            ) from error


class ImpatientLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, but for two of its habits.

    It would wait a minute for the first message of TLS, and what it accepts at once it takes for
    the length of the system's queue as well.
    """

    async def create_server(self, *args: Any, ssl: Any = None, **keywords: Any) -> Any:
        """As the loop does."""
        if ssl is not None:
            keywords.setdefault("ssl_handshake_timeout", _HANDSHAKE_S)
        server = await super().create_server(*args, ssl=ssl, **keywords)
        for listening in server.sockets:
            with socket.fromfd(listening.fileno(), listening.family, listening.type) as same:
                same.listen(_QUEUE)
        return server


class BoundedServer(uvicorn.Server):
    """Ends in order on SIGTERM, and in any case soon after."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ask for the end; before anything is served there is nothing to end in order."""
        if not self.started:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        if not self.should_exit:
            # Work in a thread cannot be stopped, and might not end.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, SHUTDOWN_S + _END_ANYWAY_S)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what goes on; who would wait too long is told, and their work is waited for.

        uvicorn's own limit of time cancels requests, which answers 500, and leaves threads in the
        middle of what they write.
        """
        giving_up = asyncio.get_running_loop().call_later(SHUTDOWN_S, self._give_up)
        try:
            await super().shutdown(sockets)
        finally:
            giving_up.cancel()

    def _give_up(self) -> None:
        for connection in list(self.server_state.connections):
            assert isinstance(connection, GuardedProtocol)  # nosec B101 # for type checkers
            connection.give_up()


def make_server(
    app: Any,
    listening: Listening,
    settings: SecuritySettings,
    limits: ConnectionLimits | None = None,
) -> BoundedServer:
    """A server for an ASGI app that waits for no client longer than it must.

    Logging is left as it is. ``limits`` are those of the settings unless given.
    """
    handles = raise_handle_limit()
    connections = Connections(limits or connection_limits(settings, handles))
    proxies = list(settings.trusted_proxies)
    config = uvicorn.Config(
        app,
        host=listening.host,
        port=listening.port,
        http=functools.partial(GuardedProtocol, connections=connections),  # type: ignore[arg-type]
        ws="none",
        loop=f"{__name__}:{ImpatientLoop.__name__}",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        backlog=accepted_at_once(connections.limits.total, handles),
        timeout_keep_alive=round(connections.limits.idle_s),
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.certificate_key,
    )
    return BoundedServer(config)


def connection_limits(settings: SecuritySettings, handles: int) -> ConnectionLimits:
    """The limits that the settings ask for, as far as this process may have ``handles`` files."""
    return ConnectionLimits(
        total=min(settings.max_connections, handles - min(_OWN_HANDLES, handles // 2)),
        per_address=settings.connections_per_address,
        proxies=settings.trusted_proxies,
    )


def accepted_at_once(connections: int, handles: int) -> int:
    """How many new connections may be accepted in one turn of the loop.

    Args:
        connections: that may be open.
        handles: files that this process may have open.
    """
    to_spare = (handles - connections) // 2
    return min(max(to_spare // _ROUNDS_UNCOUNTED, _ACCEPTED_AT_ONCE[0]), _ACCEPTED_AT_ONCE[-1])


def raise_handle_limit() -> int:
    """Allow this process the file handles that the system would give it; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_HANDLES if hard == resource.RLIM_INFINITY else min(hard, _MOST_HANDLES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return _MOST_HANDLES if soft == resource.RLIM_INFINITY else min(soft, _MOST_HANDLES)
