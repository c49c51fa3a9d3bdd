# SPDX-License-Identifier: Apache-2.0
"""A small local server that speaks the subset of OpenAI's API that is used, as vLLM 0.32 does."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PIECES = [
    "<think>",
    "Left lobe.",
    "</think>",
    "<answer>",
    '{"bbox":[1,2,30,40],"points_1":[5,6],',
    '"points_2":[7,8]}',
    "</answer>",
]
COMPLETION = "".join(PIECES)
Reply = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """Answers what the test has put into ``server.replies``, else ``server.reply``."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.models_reply(self)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(body)
        if "prompt_logprobs" in body:
            self.server.score_reply(self, body)
        else:
            reply = self.server.replies.pop(0) if self.server.replies else self.server.reply
            reply(self, body)

    def send(self, status: int, text: str, kind: str = "application/json") -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


class Stub(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.seen: list[dict[str, Any]] = []
        self.replies: list[Reply] = []
        self.reply: Reply = stream()
        self.models_reply: Callable[[Handler], None] = serves(TINY)
        self.score_reply: Reply = score(PIECES, [0.5] * len(PIECES))
        self.broken_pipes = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        self.broken_pipes += 1


def card(name: str, **extra: object) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "vllm"} | extra


def serves(*cards: dict[str, object]) -> Callable[[Handler], None]:
    return lambda handler: handler.send(200, json.dumps({"object": "list", "data": cards}))


TINY = card("tiny", root="/models/tiny", max_model_len=1024)


def event(index: int, text: str | None, finish: str | None) -> str:
    delta = {} if text is None else {"content": text}
    logprobs = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": []}]} if text else None
    choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "tiny"}
    return f"data: {json.dumps(chunk | {'choices': [choice]})}\n\n"


def stream(pieces: list[str] = PIECES, finish: str | None = "stop", pause_s: float = 0.0) -> Reply:
    """Send ``pieces`` for every sample asked for, interleaved; ``finish`` None breaks off."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        for piece in pieces:
            for index in range(body.get("n", 1)):
                handler.wfile.write(event(index, piece, None).encode())
                handler.wfile.flush()
                time.sleep(pause_s)
        for index in range(body.get("n", 1) if finish else 0):
            handler.wfile.write(event(index, None, finish).encode())
        if finish:
            handler.wfile.write(b"data: [DONE]\n\n")
        handler.close_connection = True

    return reply


def status(code: int, message: str = "") -> Reply:
    error = {"error": {"message": message, "type": "BadRequestError", "code": code}}
    return lambda handler, body: handler.send(code, json.dumps(error))


def score(pieces: list[str], chances: list[float]) -> Reply:
    entries: list[Any] = [None, {"9": {"logprob": -9.0, "rank": 1, "decoded_token": "prompt"}}]
    for number, (piece, chance) in enumerate(zip(pieces, chances, strict=True)):
        told = {"logprob": math.log(chance), "rank": 1, "decoded_token": piece}
        entries.append({str(number): told})
    message = {"role": "assistant", "content": "x"}
    choice = {"index": 0, "message": message, "finish_reason": "length", "logprobs": None}
    done = {"id": "x", "object": "chat.completion", "created": 0, "model": "tiny"}
    done |= {"choices": [choice], "prompt_logprobs": entries}
    return lambda handler, body: handler.send(200, json.dumps(done))


@contextmanager
def running(port: int = 0) -> Iterator[Stub]:
    """A server that answers until the block ends, on a free port unless one is given."""
    stub = Stub(port)
    thread = threading.Thread(target=stub.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.shutdown()
        stub.server_close()
        thread.join()
