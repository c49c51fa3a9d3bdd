# SPDX-License-Identifier: Apache-2.0
"""A reasoner's server that hangs, dribbles or never ends, and readers who leave meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from support import misbehaving as peer
from support.misbehaving import Left, MisbehavingServer, misbehaving

pytest.importorskip("openai")

from medreasoner_infer.addresses import shown_address
from medreasoner_infer.errors import CancelledError, ReasonerUnreachableError
from medreasoner_infer.models.store.lora_route import set_lora_adapter
from medreasoner_infer.reasoners import PromptTemplate, connect_vllm_reasoner
from medreasoner_infer.reasoners.server_link import ReasonerLimits, api_address
from medreasoner_infer.types import ReasonerRequest

CEILING_S = 20
SIZE = 56
LIMITS = ReasonerLimits(
    connect_s=1.0, silence_s=0.4, total_s=1.0, sample_bytes=200_000, sample_chars=5000
)
PATIENT = ReasonerLimits()
EVENTS = b"text/event-stream"
CARD = {"id": "tiny", "root": "/models/tiny", "max_model_len": 1024}


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with misbehaving() as running:
        running.at = {"/models": peer.answers(json.dumps({"data": [CARD]}).encode())}
        yield running


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.002)


def connect(server: MisbehavingServer, limits: ReasonerLimits = LIMITS):
    prompt = PromptTemplate("Ground.", "{query}")
    return connect_vllm_reasoner(
        server.url,
        "tiny",
        input_size=SIZE,
        prompt=prompt,
        limits=limits,
        model_type="qwen2_5_vl",
    )


def request_of() -> ReasonerRequest:
    return ReasonerRequest(np.zeros((SIZE, SIZE, 3), np.uint8), "What stores bile?", "key")


def event(text: object, index: int = 0) -> bytes:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "tiny"}
    return b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n"


def streams(content: bytes, pause_s: float = 0.02):
    """The same event again and again."""

    def behave(connection, body) -> None:
        connection.send(peer.HEAD % EVENTS + b"Connection: close\r\n\r\n")
        while connection.send(content) and not connection.server.over.wait(pause_s):
            pass

    return behave


ENDLESS = {
    "hangs": peer.hangs,
    "hangs in the body": partial(peer.hangs_in_the_body, kind=EVENTS),
    "a byte at a time": partial(peer.dribbles, kind=EVENTS),
    "a byte of the head at a time": peer.dribbles_headers,
    "a comment at a time": streams(b": ping\n\n"),
    "a token at a time": streams(event("x")),
    "an endless line": partial(peer.sends_an_endless_body, kind=EVENTS),
    "endless headers": peer.sends_endless_headers,
    "endless tokens": streams(event("x" * 1000), pause_s=0),
    "another sample": streams(event("x", index=7)),
    "a sample before the first": streams(event("x", index=-1)),
    "no text": streams(event(["x"])),
    "a list": streams(b"data: [1, 2]\n\n"),
    "depth": streams(b"data: " + b"[" * 100_000 + b"\n\n"),
}


@pytest.mark.parametrize("behaviour", ENDLESS.values(), ids=ENDLESS.keys())
def test_an_answer_that_does_not_end_or_is_none_is_typed_in_time(server, behaviour) -> None:
    server.behaviour = behaviour
    reasoner = connect(server)
    held, began = Left(), time.monotonic()
    with pytest.raises(ReasonerUnreachableError, match="server"):
        reasoner.answer(request_of())
    assert time.monotonic() - began < CEILING_S
    assert held.nothing()


@pytest.mark.parametrize(
    "name",
    ["hangs", "hangs in the body", "a byte at a time", "a comment at a time", "a token at a time"],
)
def test_a_reader_who_leaves_is_noticed_within_a_second(server, name) -> None:
    server.behaviour = ENDLESS[name]
    reasoner = connect(server, PATIENT)
    held, began = Left(), time.monotonic()
    with pytest.raises(CancelledError):
        reasoner.answer(request_of(), cancelled=lambda: time.monotonic() - began > 0.5)
    assert time.monotonic() - began < 1.5
    assert server.left.wait(1)
    assert held.nothing()


def test_who_leaves_while_the_confidence_is_scored_is_noticed(server) -> None:
    def behave(connection, body) -> None:
        if len(server.heads) > 2:  # the models, the answer, the score
            return connection.wait()
        answer = '<think>x</think><answer>{"bbox":[1,2,30,40],"points_1":[5,6],"points_2":[7,8]}'
        done = {"index": 0, "delta": {}, "finish_reason": "stop"}
        last = b"data: " + json.dumps({"id": "x", "choices": [done]}).encode() + b"\n\n"
        text = event(answer + "</answer>") + last + b"data: [DONE]\n\n"
        return peer.answers(text, EVENTS)(connection, body)

    server.behaviour = behave
    reasoner = connect(server, PATIENT)
    began = time.monotonic()
    with pytest.raises(CancelledError):
        reasoner.answer(request_of(), cancelled=lambda: len(server.heads) > 2)
    assert time.monotonic() - began < CEILING_S


@pytest.mark.parametrize(
    "behaviour", [peer.hangs, peer.dribbles, peer.sends_an_endless_body, peer.hangs_up]
)
def test_connecting_and_setting_an_adapter_end_in_time(server, behaviour) -> None:
    server.at, server.behaviour = {}, behaviour
    began = time.monotonic()
    with pytest.raises(ReasonerUnreachableError):
        connect(server)
    with pytest.raises(ReasonerUnreachableError):
        set_lora_adapter(server.url, "tiny", None, timeout_s=0.5)
    assert time.monotonic() - began < CEILING_S


@pytest.mark.parametrize(
    "cards", [[{"id": 3}], [{"id": "tiny", "root": []}], [{"id": "tiny", "max_model_len": "x"}]]
)
def test_cards_of_another_kind_are_told(server, cards) -> None:
    server.at = {"/models": peer.answers(json.dumps({"data": cards}).encode())}
    with pytest.raises(ReasonerUnreachableError, match="list of models"):
        connect(server)


# --- addresses -----------------------------------------------------------------------------------

SECRET = "hunter2"  # pragma: allowlist secret - made up
WITH_PASSWORD = [
    f"http://user:{SECRET}@host:8000/v1", f"https://{SECRET}@host", f"http://user:{SECRET}/x@host/",
    f"http://user:{SECRET}#x@host", f"http://user:{SECRET}?x@host", f"user:{SECRET}@host:8000",
    f"http://a@b:{SECRET}@host", f"http://host/v1?key={SECRET}", f"HTTP://user:{SECRET}@host:99999",
    f"http://[{SECRET}", f"  http://user:{SECRET}@host  ", f"{SECRET}",
]  # fmt: skip


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_no_password_is_shown(url) -> None:
    assert SECRET not in shown_address(url)
    try:
        said = api_address(url)
    except ReasonerUnreachableError as error:
        said = str(error)
    assert SECRET not in said


def test_an_address_without_secrets_is_shown_as_it_is() -> None:
    assert shown_address("https://host:8000/dicom-web") == "https://host:8000/dicom-web"
    assert shown_address("http://u:p@[::1]:8000/v1") == "http://[::1]:8000/v1"


def test_an_address_of_the_environment_needs_no_conf(monkeypatch) -> None:
    from monailabel_app.settings import AppSettings

    address = "http://user:pw@host/v1"  # pragma: allowlist secret - made up
    monkeypatch.setenv("MEDREASONER_REASONER_URL", address)
    assert AppSettings.from_conf({}).reasoner_url == address
    assert AppSettings.from_conf({"reasoner_url": "http://b"}).reasoner_url == "http://b"
