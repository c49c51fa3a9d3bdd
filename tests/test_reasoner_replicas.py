# SPDX-License-Identifier: Apache-2.0
"""Several reasoner's servers of one model, real HTTP: who is asked, and what if one is away."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from support.slow_reasoner import SlowReasoner
from support.vllm_stub import Stub, card, running, serves, status, stream
from support.waiting import eventually

pytest.importorskip("openai")

from medreasoner_infer.addresses import addresses_in
from medreasoner_infer.errors import InputError, ReasonerUnreachableError
from medreasoner_infer.reasoners import PromptTemplate, connect_vllm_reasoner
from medreasoner_infer.reasoners.replicas import LOYALTY
from medreasoner_infer.types import ReasonerRequest

SIZE = 56


@pytest.fixture
def two() -> Iterator[tuple[Stub, Stub]]:
    with running() as first, running() as second:
        yield first, second


@pytest.fixture(autouse=True)
def rechecked_at_once(monkeypatch) -> None:
    monkeypatch.setattr("medreasoner_infer.reasoners.replicas.RECHECK_S", 0.0)


def connect(*servers: Stub | str, **options):
    urls = [each if isinstance(each, str) else each.url for each in servers]
    told = {"input_size": SIZE, "prompt": PromptTemplate("Ground.", "{query}")}
    told |= {"model_type": "qwen2_5_vl", "timeout_s": 10.0}
    return connect_vllm_reasoner(",".join(urls), "tiny", **(told | options))


def request_of(image: str = "", query: str = "What stores bile?") -> ReasonerRequest:
    return ReasonerRequest(np.zeros((SIZE, SIZE, 3), np.uint8), query, image)


def questions(server: Stub) -> int:
    return sum("stream" in body for body in server.seen)


def test_one_image_stays_with_one_server_and_images_are_spread(two) -> None:
    reasoner = connect(*two)
    for number in range(16):
        before = [questions(server) for server in two]
        for _ in range(3):
            reasoner.answer(request_of(f"image {number}"))
        asked = sorted(questions(server) - was for server, was in zip(two, before, strict=True))
        assert asked == [0, 3]
    assert all(questions(server) > 0 for server in two)


def test_an_answer_is_scored_by_the_server_that_gave_it(two) -> None:
    reasoner = connect(*two)
    for number in range(8):
        reasoner.answer(request_of(f"image {number}"))
    for server in two:
        assert len(server.seen) == 2 * questions(server)


def test_without_an_image_the_idlest_is_asked_and_a_crowded_one_is_helped(two) -> None:
    slow = [SlowReasoner(server) for server in two]
    reasoner = connect(*two)
    with ThreadPoolExecutor(32) as pool:
        try:
            for count in range(1, 7):
                pool.submit(reasoner.answer, request_of())
                eventually(lambda count=count: sum(len(each.at_once) for each in slow) == count)
            assert [len(each.at_once) for each in slow] == [3, 3]
            for count in range(7, 8 + LOYALTY):
                pool.submit(reasoner.answer, request_of("image"))
                eventually(lambda count=count: sum(len(each.at_once) for each in slow) == count)
            alone = sorted(len(each.at_once) for each in slow)
            assert alone == [3, 4 + LOYALTY]
            pool.submit(reasoner.answer, request_of("image"))
            eventually(lambda: sum(len(each.at_once) for each in slow) == 8 + LOYALTY)
            assert sorted(len(each.at_once) for each in slow) == [4, 4 + LOYALTY]
        finally:
            for each in slow:
                each.let_all_go()


def test_a_dead_server_is_passed_over_and_comes_back() -> None:
    with ExitStack() as stack, running() as stays:
        dies = stack.enter_context(running())
        port = dies.server_port
        reasoner = connect(dies, stays)
        images = [f"image {number}" for number in range(8)]
        for image in images:
            reasoner.answer(request_of(image))
        assert questions(dies) > 0
        stack.close()
        before = questions(stays)
        for image in images:
            (answer,) = reasoner.answer(request_of(image))
            assert answer.grounding.present
        assert questions(stays) == before + len(images)
        assert reasoner.servers.up == 1
        with running(port) as again:

            def is_asked() -> bool:
                for image in images:
                    reasoner.answer(request_of(image))
                return questions(again) > 0

            eventually(is_asked)
            assert reasoner.servers.up == 2


def test_a_server_that_is_dead_at_the_start_is_asked_once_it_lives(two, caplog) -> None:
    first, _ = two
    with running() as probe:
        port = probe.server_port
    reasoner = connect(f"http://127.0.0.1:{port}", first)
    assert "left aside" in caplog.text
    reasoner.answer(request_of("image"))
    with running(port) as late:

        def is_asked() -> bool:
            for number in range(8):
                reasoner.answer(request_of(f"image {number}"))
            return questions(late) > 0

        eventually(is_asked)


def test_no_server_at_all_is_a_typed_fault() -> None:
    with pytest.raises(ReasonerUnreachableError, match="could not be reached"):
        connect("http://127.0.0.1:9", "http://127.0.0.1:11", timeout_s=1.0)


def test_where_none_is_well_all_are_tried_and_the_fault_is_typed(two) -> None:
    reasoner = connect(*two)
    for server in two:
        server.reply, server.models_reply = status(500), lambda handler: handler.send(500, "{}")
    with pytest.raises(ReasonerUnreachableError, match="HTTP 500"):
        reasoner.answer(request_of("image"))
    assert [questions(server) for server in two] == [1, 1]
    for server in two:
        server.reply = stream()
    (answer,) = reasoner.answer(request_of("image"))
    assert answer.grounding.present


def test_what_may_have_harmed_a_server_is_put_to_one_other_only() -> None:
    with running() as one, running() as another, running() as third:
        servers = (one, another, third)
        reasoner = connect(*servers)
        for server in servers:
            server.reply = stream(finish=None)
        with pytest.raises(ReasonerUnreachableError, match="broke off"):
            reasoner.answer(request_of("image"))
        assert sorted(questions(server) for server in servers) == [0, 1, 1]


def test_a_broken_answer_is_begun_anew_only_where_nothing_of_it_was_told(two) -> None:
    reasoner = connect(*two)
    for server in two:
        server.replies = [stream(finish=None)]
    told: list[str] = []
    with pytest.raises(ReasonerUnreachableError, match="broke off"):
        reasoner.answer(request_of("image"), on_text=told.append)
    assert sum(questions(server) for server in two) == 1
    assert told.count("<think>") == 1
    broken = next(server for server in two if questions(server))
    broken.replies = [stream(finish=None)]
    next(server for server in two if server is not broken).replies = []
    (answer,) = reasoner.answer(request_of("image"))
    assert answer.grounding.present


def test_a_question_that_cannot_be_asked_is_put_to_no_other(two) -> None:
    reasoner = connect(*two)
    for server in two:
        server.reply = status(400, "This model's maximum context length is 1024 tokens.")
    with pytest.raises(InputError, match="max-model-len"):
        reasoner.answer(request_of("image"))
    assert sum(questions(server) for server in two) == 1
    assert reasoner.servers.up == 2


@pytest.mark.parametrize(
    "other",
    [card("tiny", root="/models/other", max_model_len=1024), card("tiny", root="/models/tiny")],
)
def test_a_server_of_other_weights_or_another_length_is_never_asked(two, other, caplog) -> None:
    two[1].models_reply = serves(other)
    reasoner = connect(*two)
    for number in range(8):
        reasoner.answer(request_of(f"image {number}"))
    assert questions(two[1]) == 0
    assert "do not serve the same" in caplog.text


def test_a_server_that_comes_back_with_other_weights_stays_aside(two, caplog) -> None:
    caplog.set_level("INFO")
    reasoner = connect(*two)
    two[1].reply = status(500)
    two[1].models_reply = serves(card("tiny", root="/models/other", max_model_len=1024))
    for number in range(8):
        reasoner.answer(request_of(f"image {number}"))
    two[1].reply, asked = stream(), questions(two[1])
    eventually(lambda: "stays aside" in caplog.text)
    for number in range(8):
        reasoner.answer(request_of(f"image {number}"))
    assert questions(two[1]) == asked


def test_the_identity_names_all_servers_and_no_password(two) -> None:
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
