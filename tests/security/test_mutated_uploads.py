# SPDX-License-Identifier: Apache-2.0
"""A damaged or hostile file leaves a server that answers, lists, and starts again.

``MEDREASONER_MUTATED_FILES`` says how many files come by each way; the long run with figures is
``benchmarks/mutated_uploads.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest.importorskip("monailabel")

from support.fuzzing import faults_in, lasting_damage
from support.mutants import Mutants
from support.tried_server import TriedServer, tried_server
from support.uploading import WAYS, upload_mutants

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FILES = int(os.environ.get("MEDREASONER_MUTATED_FILES", "30"))
SEED = 7


@pytest.fixture
def server(tmp_path) -> Iterator[TriedServer]:
    with tried_server(tmp_path) as started:
        yield started


def test_no_way_in_fails_at_a_mutated_file_and_the_server_starts_again(server) -> None:
    reports = [upload_mutants(server, name, FILES, SEED) for name in WAYS]
    faults = faults_in(reports)
    assert not faults, "\n".join(faults)
    # Where no file was refused, none was looked at.
    assert all(report.count(4) for report in reports)
    assert [path for path in server.scratch.rglob("*") if path.is_file()] == []
    server.restart()
    assert lasting_damage(server.url, server.headers) == []


def test_the_same_seed_makes_the_same_files() -> None:
    assert list(Mutants(3).draw(40)) == list(Mutants(3).draw(40))
