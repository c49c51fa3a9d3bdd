# SPDX-License-Identifier: Apache-2.0
"""``medreasoner serve`` as a process of its own, for as long as a measurement needs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_TIMEOUT_S = 900
_STOP_TIMEOUT_S = 120


@contextmanager
def serving(home: Path, *arguments: str) -> Iterator[str]:
    """Serve until the block ends.

    Args:
        home: ``$MEDREASONER_HOME`` of the server; gets its log as well.
        arguments: of ``medreasoner serve``, without the port.

    Yields:
        The server's address.

    Raises:
        RuntimeError: it does not come up; with the end of its log.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # All clients come from one address here.
    environment = {**os.environ, "MEDREASONER_HOME": str(home)}
    environment |= {"MEDREASONER_REQUESTS_PER_MINUTE": "100000"}
    command = [sys.executable, "-m", "monailabel_app.cli", "serve", "--port", str(port)]
    home.mkdir(parents=True, exist_ok=True)
    log = home / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, *arguments], stdout=stream, stderr=stream, env=environment
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(_STOP_TIMEOUT_S)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{url}/info/", timeout=60).raise_for_status()
        except httpx.TransportError:
            time.sleep(1)
        else:
            return
    raise RuntimeError(f"The server did not come up:\n{log.read_text()[-2000:]}")
