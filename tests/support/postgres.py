# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL of a test's own, on a Unix socket and a port of loopback, that can be killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.servers import free_port

OWNER = "medreasoner"
PASSWORD = "a-password-of-a-test"  # pragma: allowlist secret - made up
_ACCOUNT = "postgres"
_WAIT_S = "60"
_SETTINGS = {
    # What is committed survives a killed server also so, only no loss of power.
    "fsync": "off", "listen_addresses": "127.0.0.1", "max_connections": "60",
    "shared_buffers": "16MB", "logging_collector": "off",
}  # fmt: skip


def server_programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``, ``None`` where they are absent."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "pg_ctl").exists()), None)


class Postgres:
    """An empty server, with an account that owns each database that is made.

    Attributes:
        port: on 127.0.0.1, where the account needs its password; on the socket it needs none.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.port = free_port()
        # The path of a socket may not be long.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.folder.chmod(0o755)
        self._data = self.folder / "data"
        self._databases = 0
        if os.geteuid() == 0:
            shutil.chown(self.folder, _ACCOUNT)
        self._run("initdb", "--pgdata", self._data, "--username", "postgres", "--no-sync",
                  "--auth-local", "trust", "--auth-host", "scram-sha-256")  # fmt: skip

    def start(self) -> None:
        settings = {**_SETTINGS, "port": self.port, "unix_socket_directories": self.folder}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._run("pg_ctl", "start", "--pgdata", self._data, "--wait", "--timeout", _WAIT_S,
                  "--options", options, "--log", self.folder / "log")  # fmt: skip

    def kill(self) -> None:
        """End at once; connections are lost, and the next start recovers from the log."""
        self._run("pg_ctl", "stop", "--pgdata", self._data, "--mode", "immediate", "--wait")

    @contextmanager
    def away(self) -> Iterator[None]:
        self.kill()
        try:
            yield
        finally:
            self.start()

    def remove(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self.kill()
        shutil.rmtree(self.folder)

    def make_owner(self) -> None:
        """The account as the documentation makes it."""
        self.execute(
            f"CREATE ROLE {OWNER} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{PASSWORD}'"
        )

    def new_database(self) -> str:
        """The address, on the socket, of an empty database of the account's."""
        self._databases += 1
        name = f"records{self._databases}"
        self.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
        return self.address_of(name)

    def address_of(self, name: str) -> str:
        return f"postgresql+psycopg://{OWNER}@/{name}?host={self.folder}&port={self.port}"

    def on_loopback(self, address: str) -> str:
        """The same database where the password is asked for."""
        name = address.partition("@/")[2].partition("?")[0]
        return f"postgresql+psycopg://{OWNER}@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str) -> None:
        """As the administrator, outside of any transaction."""
        import psycopg

        where = f"host={self.folder} port={self.port} user=postgres dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(statement)

    def _run(self, program: str, *arguments: str | Path) -> None:
        """As another account than root, whom PostgreSQL refuses."""
        command = [str(self._programs / program), *map(str, arguments)]
        if os.geteuid() == 0:
            command = ["runuser", "-u", _ACCOUNT, "--", *command]
        # A server that goes on must not hold the pipes of this process.
        with (self.folder / "programs.log").open("ab") as log:
            done = subprocess.run(command, stdout=log, stderr=log, cwd="/", check=False)
        said = (self.folder / "programs.log").read_text()[-2000:]
        assert done.returncode == 0, f"{program} failed:\n{said}"
