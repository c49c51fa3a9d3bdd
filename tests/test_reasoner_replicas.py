# SPDX-License-Identifier: Apache-2.0
"""Several reasoner's servers of one model, real HTTP: who is asked, and what if one is away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from support.slow_reasoner import SlowReasoner
from support.vllm_stub import Stub, card, running, serves, status, stream

pytest.importorskip("openai")

from medreasoner_infer.addresses import addresses_in
from medreasoner_infer.errors import InputError, ReasonerUnreachableError
from medreasoner_infer.reasoners import PromptTemplate, connect_vllm_reasoner
from medreasoner_infer.reasoners.replicas import LOYALTY
from medreasoner_infer.types import ReasonerRequest

SIZE = 56
WAIT_S = 30


@pytest.fixture
def two() -> Iterator[tuple[Stub, Stub]]:
    with running() as first, running() as second:
        yield first, second


@pytest.fixture(autouse=True)
def rechecked_at_once(monkeypatch) -> None:
    monkeypatch.setattr("medreasoner_infer.reasoners.replicas.RECHECK_S", 0.0)


def connect(*servers: Stub | str, **options):
    login = "user:hunter2"  # pragma: allowlist secret
    urls = [server.url.replace("http://", f"http://{login}@") for server in two]
    reasoner = connect(*urls)
    first, second = two
    assert reasoner.identity.source == f"tiny at {first.url}/v1, {second.url}/v1"
    assert "hunter2" not in repr(reasoner.identity)
    reasoner.answer(request_of("image"))


def test_each_server_is_got_ready_before_it_is_asked(two) -> None:
    prepared: list[str] = []
    connect(*two, prepare=prepared.append)
    assert prepared == [server.url for server in two]


def test_addresses_are_separated_by_commas_that_another_address_follows() -> None:
    assert addresses_in("http://a/v1, https://b:1,http://a/v1") == ("http://a/v1", "https://b:1")
    secret = "http://user:one,two@host/v1"  # pragma: allowlist secret - made up
    assert addresses_in(secret) == (secret,)


def test_one_server_alone_is_always_asked(two) -> None:
    reasoner = connect(two[0])
    two[0].replies = [status(400)]
    with pytest.raises(ReasonerUnreachableError):
        reasoner.answer(request_of("image"))
    assert reasoner.servers.up == 1
    (answer,) = reasoner.answer(request_of("image"))
    assert answer.grounding.present
