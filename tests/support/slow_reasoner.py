# SPDX-License-Identifier: Apache-2.0
"""A reasoner's server whose answers take as long as a test wants, and tell which question it is."""

from __future__ import annotations

import base64
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.vllm_stub import Handler, Reply, Stub, running, stream

POLL_S = 0.005


class SlowReasoner:
    """Holds each question until it is let go; counts how many it holds at once.

    Attributes:
        asked: the questions in the order in which they came.
        at_once: the questions that are held.
        most_at_once: of all times.
        left: the questions whose asker hung up before the answer.
    """

    def __init__(self, stub: Stub) -> None:
        self.url = stub.url
        self.asked: list[str] = []
        self.at_once: list[str] = []
        self.most_at_once = 0
        self.left: list[str] = []
        self._let_go: set[str] = set()
        self._all_go = False
        self._changed = threading.Condition()
        stub.reply = self._reply

    def let_go(self, question: str) -> None:
        """Answer this question, now or when it comes."""
        with self._changed:
            self._let_go.add(question)

    def let_all_go(self) -> None:
        """Answer all, also those that are still to come."""
        self._all_go = True

    def _reply(self, handler: Handler, body: dict[str, Any]) -> None:
        question = body["messages"][1]["content"][1]["text"]
        with self._changed:
            self.asked.append(question)
            self.at_once.append(question)
            self.most_at_once = max(self.most_at_once, len(self.at_once))
        try:
            while not self._all_go and question not in self._let_go:
                if _has_left(handler.connection):
                    self.left.append(question)
                    return
                threading.Event().wait(POLL_S)
        finally:
            with self._changed:
                self.at_once.remove(question)
        stream(pieces_of(body))(handler, body)


def pieces_of(body: dict[str, Any]) -> list[str]:
    """An answer whose reasoning repeats the question; the target is the middle of the image."""
    image, question = body["messages"][1]["content"]
    side = _side_of(image["image_url"]["url"])
    low, middle, high = (side * share // 10 for share in (3, 5, 7))
    answer = {
        "bbox": [low, low, high, high],
        "points_1": [middle, middle],
        "points_2": [middle + 1, middle + 1],
    }
    block = f"<answer>{json.dumps(answer, separators=(',', ':'))}</answer>"
    return ["<think>", f"You ask: {question['text']}", "</think>", block]


def _side_of(png_url: str) -> int:
    """The width of a PNG, which stands behind its signature and the head of its first chunk."""
    content = base64.b64decode(png_url.partition(",")[2][:64])
    return int.from_bytes(content[16:20], "big")


def answers_after(latency_s: float) -> Reply:
    """What a server of this latency does."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(latency_s)
        stream(pieces_of(body))(handler, body)

    return reply


def _has_left(connection: socket.socket) -> bool:
    # select() takes no file whose number is above 1023, and a run of all tests has many open.
    looking = select.poll()
    looking.register(connection, select.POLLIN)
    return bool(looking.poll(0)) and not connection.recv(1, socket.MSG_PEEK)


@contextmanager
def slow_reasoner() -> Iterator[SlowReasoner]:
    """A server that answers until the block ends."""
    with running() as stub:
        slow = SlowReasoner(stub)
        try:
            yield slow
        finally:
            slow.let_all_go()
