# SPDX-License-Identifier: Apache-2.0
"""The vLLM engine against a small local server that speaks the API subset, as vLLM 0.32 does."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import sys
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.vllm_stub import (
    COMPLETION,
    PIECES,
    TINY,
    Handler,
    Stub,
    card,
    event,
    running,
    score,
    serves,
    status,
    stream,
)

from medreasoner_infer.answer import DegenerateBoxError, MissingAnswerError, MissingKeyError
from medreasoner_infer.errors import (
    CancelledError,
    InputError,
    MissingExtraError,
    ReasonerUnreachableError,
)
from medreasoner_infer.reasoners import PromptTemplate, connect_vllm_reasoner
from medreasoner_infer.reasoners.prompts import Asking
from medreasoner_infer.types import ReasonerRequest

pytest.importorskip("openai")

SIZE = 56
PROMPT = PromptTemplate("Ground.", "{query}")


@pytest.fixture
def server():
    with running() as stub:
        yield stub


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.002)


def connect(server: Stub, model: str = "tiny", **options: Any):
    told = {"timeout_s": 10.0, "input_size": SIZE, "prompt": PROMPT, "model_type": "qwen2_5_vl"}
    options = told | options
    return connect_vllm_reasoner(server.url, model, **options)


def request_of(**options: Any) -> ReasonerRequest:
    image = np.arange(SIZE * SIZE * 3, dtype=np.uint32).reshape(SIZE, SIZE, 3).astype(np.uint8)
    return ReasonerRequest(image, "What stores bile?", "key", **options)


def test_a_healthy_server_answers(server) -> None:
    pieces: list[str] = []
    (answer,) = connect(server).answer(request_of(), on_text=pieces.append)
    assert pieces == PIECES
    assert answer.completion == COMPLETION
    assert answer.completion_tokens == len(PIECES)
    assert answer.grounding.reasoning == "Left lobe."
    assert answer.grounding.bbox_xyxy_px == (1, 2, 30, 40)
    assert answer.grounding.points_xy_px == ((5, 6), (7, 8))


def test_the_request_carries_question_pixels_constraint_and_plain_sampling(server) -> None:
    request = request_of()
    connect(server).answer(request)
    body = server.seen[0]
    assert body["model"] == "tiny"
    assert body["stream"] is True
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Ground."}
    image, text = user["content"]
    assert text == {"type": "text", "text": "What stores bile?"}
    data = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), request.image)
    assert re.fullmatch(body["structured_outputs"]["regex"], COMPLETION)
    expected = {"temperature": 0.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0}
    expected |= {"repetition_penalty": 1.0, "seed": 0, "n": 1}
    assert {key: body[key] for key in expected} == expected


def test_confidence_is_scored_without_the_constraint(server) -> None:
    chances = [0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8]
    server.score_reply = score(PIECES, chances)
    (answer,) = connect(server).answer(request_of())
    assert answer.confidence == pytest.approx(math.prod(chances[3:]) ** (1 / 4))
    body = server.seen[1]
    assert "structured_outputs" not in body
    assert body["messages"][:2] == server.seen[0]["messages"]
    assert body["messages"][2] == {"role": "assistant", "content": COMPLETION}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


def test_decoding_freely_the_server_is_given_no_format(server) -> None:
    connect(server, asking=Asking(constrained=False)).answer(request_of())
    assert "structured_outputs" not in server.seen[0]


def test_a_server_that_does_not_score_gives_no_confidence(server) -> None:
    plain = {"index": 0, "message": {"role": "assistant"}, "finish_reason": "length"}
    text = json.dumps({"id": "x", "object": "chat.completion", "choices": [plain]})
    server.score_reply = lambda handler, body: handler.send(200, text)
    (answer,) = connect(server).answer(request_of())
    assert answer.confidence is None


def test_samples_are_kept_apart(server) -> None:
    answers = connect(server).answer(request_of(samples=3, temperature=0.8, seed=4))
    assert [a.completion for a in answers] == [COMPLETION] * 3
    assert [a.completion_tokens for a in answers] == [len(PIECES)] * 3
    assert (server.seen[0]["n"], server.seen[0]["seed"]) == (3, 4)


def test_greedy_samples_are_computed_once(server) -> None:
    answers = connect(server).answer(request_of(samples=3))
    assert len(answers) == 3
    assert server.seen[0]["n"] == 1


def test_a_batch_keeps_its_order(server) -> None:
    def echo(handler: Handler, body: dict[str, Any]) -> None:
        question = body["messages"][1]["content"][1]["text"]
        number = int(question.split()[-1])
        time.sleep(0.02 * (5 - number))
        stream([COMPLETION.replace("[1,2,", f"[{number},2,")])(handler, body)

    server.replies = [echo] * 5
    requests = [ReasonerRequest(request_of().image, f"Structure {n}", f"{n}") for n in range(5)]
    answers = connect(server).answer_batch(requests)
    assert [a.grounding.bbox_xyxy_px[0] for a in answers] == [0, 1, 2, 3, 4]


def test_a_batch_with_a_failure_raises_it(server) -> None:
    server.replies = [stream(), status(404), stream()]
    with pytest.raises(ReasonerUnreachableError, match="HTTP 404"):
        connect(server).answer_batch([request_of()] * 3)


def test_the_identity_tells_where_the_weights_are_served_from(server) -> None:
    identity = connect(server).identity
    assert identity.name == "tiny"
    assert identity.source == f"tiny at {server.url}/v1"
    assert identity.weights_sha256 is None


def test_the_hash_is_claimed_only_of_the_folder_that_the_server_read(server, tmp_path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert connect(server, folder=tmp_path).identity.weights_sha256 is None
    server.models_reply = serves(card("tiny", root=str(tmp_path)))
    known = connect(server, folder=tmp_path, name="embedded").identity
    assert known.weights_sha256 == hashlib.sha256(b"weights").hexdigest()
    assert known.name == "embedded"


@pytest.mark.parametrize(
    ("model", "name"), [("tiny", None), ("/models/tiny", None), ("/elsewhere", "tiny")]
)
def test_a_model_is_found_by_listed_name_or_origin(server, model, name) -> None:
    connect(server, model, name=name).answer(request_of())
    assert server.seen[0]["model"] == "tiny"


def test_a_model_that_is_not_served_is_named(server) -> None:
    with pytest.raises(ReasonerUnreachableError, match="serves tiny; expected huge"):
        connect(server, "huge")


def test_a_lora_adapter_is_asked_for_by_its_name(server) -> None:
    adapter = card("site-a", root="/adapters/site-a", parent="tiny", max_model_len=None)
    server.models_reply = serves(TINY, adapter)
    reasoner = connect(server, "site-a")
    reasoner.answer(request_of())
    assert server.seen[0]["model"] == "site-a"
    assert reasoner.identity.source.startswith("site-a at ")
    assert reasoner.servers.reference.context_tokens == 1024


def test_without_the_client_package_the_checkout_is_to_be_installed_again(
    server, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    # It comes without any extra, and the extra of this name would break the server's environment.
    with pytest.raises(MissingExtraError, match=r"'openai'.*pip install -e '[^\[]*'$"):
        connect(server)


def test_a_closed_port_is_unreachable(server) -> None:
    url = server.url
    server.server_close()
    with pytest.raises(ReasonerUnreachableError, match="could not be reached"):
        connect_vllm_reasoner(url.replace(str(server.server_port), "9"), "tiny", timeout_s=1)


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://host/v1", "file:///etc/passwd", ""])
def test_what_is_no_http_address_is_refused(address) -> None:
    with pytest.raises(ReasonerUnreachableError, match="http or https"):
        connect_vllm_reasoner(address, "tiny")


def test_credentials_in_the_address_do_not_reach_the_identity(server) -> None:
    url = server.url.replace("//", "//user:secret@")
    reasoner = connect_vllm_reasoner(
        url, "tiny", input_size=SIZE, prompt=PROMPT, model_type="qwen2_5_vl"
    )
    assert "secret" not in str(reasoner.identity)


def test_a_key_of_the_environment_is_not_sent(server, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "meant-for-another-service")
    headers: list[str] = []
    healthy = server.models_reply
    server.models_reply = lambda h: headers.append(h.headers["Authorization"]) or healthy(h)
    connect(server)
    connect(server, api_key="ours")  # pragma: allowlist secret - made up
    assert headers == ["Bearer none", "Bearer ours"]


@pytest.mark.parametrize(
    "text", ["<html>a proxy</html>", "[]", '{"object": "list"}', '{"data": 3}', "null"]
)
def test_another_kind_of_server_is_told(server, text) -> None:
    kind = "text/html" if text.startswith("<") else "application/json"
    server.models_reply = lambda handler: handler.send(200, text, kind)
    with pytest.raises(ReasonerUnreachableError, match="vLLM server's address"):
        connect(server)


def test_json_cut_short_is_told(server) -> None:
    server.models_reply = lambda handler: handler.send(200, '{"data": [{"id"')
    with pytest.raises(ReasonerUnreachableError, match="JSON"):
        connect(server)


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_passing_fault_is_retried(server, code) -> None:
    server.replies = [status(code), status(code)]
    (answer,) = connect(server).answer(request_of())
    assert answer.completion == COMPLETION


def test_a_lasting_fault_is_unreachable(server) -> None:
    server.replies = [status(503)] * 3
    with pytest.raises(ReasonerUnreachableError, match="HTTP 503"):
        connect(server).answer(request_of())
    assert len(server.seen) == 3


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_key_is_told(server, code) -> None:
    server.replies = [status(code)]
    with pytest.raises(ReasonerUnreachableError, match="API key"):
        connect(server).answer(request_of())


def test_a_question_too_long_for_the_server_is_the_callers(server) -> None:
    text = "This model's maximum context length is 1024 tokens. However, you requested more."
    server.replies = [status(400, text)]
    with pytest.raises(InputError, match="--max-model-len"):
        connect(server).answer(request_of())


def test_an_answer_cut_by_the_context_is_told(server) -> None:
    server.replies = [stream(PIECES[:2], finish="length")]
    with pytest.raises(InputError, match="--max-model-len of 1024"):
        connect(server).answer(request_of())


def test_error_bodies_are_not_repeated(server) -> None:
    server.replies = [status(422, "What stores bile? of Jane Doe")]
    with pytest.raises(ReasonerUnreachableError) as caught:
        connect(server).answer(request_of())
    assert "bile" not in str(caught.value)
    assert "422" in str(caught.value)


def test_silence_is_a_timeout(server) -> None:
    server.replies = [lambda handler, body: time.sleep(3)] * 3
    with pytest.raises(ReasonerUnreachableError, match=r"did not answer within 0\.2 s"):
        connect(server, timeout_s=0.2).answer(request_of())


def test_silence_in_mid_answer_is_a_timeout(server) -> None:
    server.replies = [stream(pause_s=3)]
    with pytest.raises(ReasonerUnreachableError, match=r"did not answer within 0\.3 s"):
        connect(server, timeout_s=0.3).answer(request_of())


def test_a_server_that_stops_in_mid_answer_is_unreachable(server) -> None:
    server.replies = [stream(PIECES[:4], finish=None)]
    with pytest.raises(ReasonerUnreachableError, match="broke off"):
        connect(server).answer(request_of())


def test_a_connection_cut_in_mid_event_is_unreachable(server) -> None:
    def cut(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.wfile.write(event(0, PIECES[0], None).encode()[:40])
        handler.close_connection = True

    server.replies = [cut]
    with pytest.raises(ReasonerUnreachableError):
        connect(server).answer(request_of())


def test_a_garbled_event_is_unreachable(server) -> None:
    server.replies = [
        lambda handler, body: handler.send(200, "data: {not json}\n\n", "text/event-stream")
    ]
    with pytest.raises(ReasonerUnreachableError, match="JSON"):
        connect(server).answer(request_of())


def test_an_error_event_in_the_stream_is_unreachable(server) -> None:
    text = 'data: {"error": {"message": "engine died about bile", "code": 500}}\n\n'
    server.replies = [lambda handler, body: handler.send(200, text, "text/event-stream")]
    with pytest.raises(ReasonerUnreachableError) as caught:
        connect(server).answer(request_of())
    assert "bile" not in str(caught.value)


def test_cancelling_closes_the_stream(server) -> None:
    server.replies = [stream(PIECES * 200, pause_s=0.01)]
    pieces: list[str] = []
    with pytest.raises(CancelledError):
        connect(server).answer(
            request_of(), on_text=pieces.append, cancelled=lambda: len(pieces) >= 3
        )
    assert len(pieces) == 3
    deadline = time.monotonic() + 10
    while not server.broken_pipes and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.broken_pipes == 1


def test_cancelled_before_it_starts_asks_nothing(server) -> None:
    reasoner = connect(server)
    with pytest.raises(CancelledError):
        reasoner.answer(request_of(), cancelled=lambda: True)
    assert server.seen == []


def test_a_server_that_ignores_the_constraint_does_not_pass(server) -> None:
    server.replies = [
        stream(["I cannot help with that."]),
        stream(['<think>x</think><answer>{"bbox":[90,0,91,9],"points_1":[5,6],']),
        stream(['<think>x</think><answer>{"bbox":[90,0,91,9],"points_1":[5,6],"points_2":[1,2]}']),
    ]
    reasoner = connect(server)
    for error in (MissingAnswerError, MissingKeyError, DegenerateBoxError):
        with pytest.raises(error):
            reasoner.answer(request_of())
