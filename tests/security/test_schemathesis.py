# SPDX-License-Identifier: Apache-2.0
"""Schemathesis finds no fault of the server in anything that ``/openapi.json`` describes.

It makes valid and invalid requests from the description itself. Long, with a report to look at:

    medreasoner serve --studies STUDIES --port 8000
    schemathesis run http://127.0.0.1:8000/openapi.json --checks not_a_server_error \
        --max-response-time 5 --max-examples 500 --seed 0 --report html

with ``MEDREASONER_REQUESTS_PER_MINUTE=10000000`` in the server's environment, as all requests come
from one address. ``MEDREASONER_SCHEMATHESIS_EXAMPLES`` raises the number here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("monailabel")

from support.fuzzing import lasting_damage
from support.tried_server import TriedServer, tried_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

EXAMPLES = int(os.environ.get("MEDREASONER_SCHEMATHESIS_EXAMPLES", "5"))
SLOWEST_S = 5
# An archive or a reasoner that does not answer is the site's fault, and the answer says so.
SETTINGS = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
"""
PROGRAM = "from schemathesis.cli import schemathesis; schemathesis()"


@pytest.fixture
def server(tmp_path) -> Iterator[TriedServer]:
    with tried_server(tmp_path / "server") as started:
        yield started


def run(server: TriedServer, folder: Path) -> tuple[subprocess.CompletedProcess, Path]:
    settings, report = folder / "schemathesis.toml", folder / "events.ndjson"
    settings.write_text(SETTINGS)
    command = [sys.executable, "-c", PROGRAM, "--config-file", str(settings), "run"]
    command += [f"{server.url}/openapi.json", "--checks", "not_a_server_error", "--no-color"]
    command += ["--max-response-time", str(SLOWEST_S), "--max-examples", str(EXAMPLES)]
    command += ["--phases", "examples,coverage,fuzzing", "--seed", "0", "--continue-on-failure"]
    command += ["--generation-deterministic", "--no-shrink"]
    command += ["--suppress-health-check", "all", "--report-ndjson-path", str(report)]
    for name, value in server.headers.items():
        command += ["--header", f"{name}:{value}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done, report


def operations_in(report: Path) -> set[str]:
    """Method and path of each route that requests were sent to."""
    events = [json.loads(line) for line in report.read_text().splitlines()]
    labels = (next(iter(event.values())).get("recorder", {}) for event in events)
    return {known["label"] for known in labels if known and "label" in known}


def test_no_request_that_the_description_allows_or_forbids_is_a_server_fault(
    server, tmp_path
) -> None:
    done, report = run(server, tmp_path)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-3_000:]
    assert len(operations_in(report)) > 20
    assert lasting_damage(server.url, server.headers) == []
