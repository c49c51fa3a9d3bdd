# SPDX-License-Identifier: Apache-2.0
"""No door answers a hostile request by a fault of the server, late, or without a sentence.

``MEDREASONER_FUZZ_REQUESTS`` says how many requests a door gets; the long run with figures is
``benchmarks/fuzz_routes.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest.importorskip("monailabel")

from support.fuzzing import Limits, causes, faults_in, lasting_damage, try_door
from support.tried_server import TriedServer, tried_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

REQUESTS = int(os.environ.get("MEDREASONER_FUZZ_REQUESTS", "12"))


@pytest.fixture(params=["without login", "with login"])
def server(request, tmp_path) -> Iterator[TriedServer]:
    with tried_server(tmp_path, login=request.param == "with login") as started:
        yield started


def test_no_door_fails_at_a_hostile_request_and_the_server_starts_again(server) -> None:
    log = server.new_log()
    reports = [
        try_door(server.url, door, Limits(REQUESTS), server.headers, log) for door in server.doors()
    ]
    assert sum(len(report.statuses) for report in reports) >= REQUESTS * 40
    # Where nothing got through, nothing behind the doors was tried.
    assert sum(report.count(2) for report in reports) > REQUESTS
    faults = faults_in(reports)
    assert not faults, "\n".join(faults)
    assert lasting_damage(server.url, server.headers) == []
    server.restart()
    assert lasting_damage(server.url, server.headers) == []
    assert causes(server.log.read_text(errors="replace")) == []
