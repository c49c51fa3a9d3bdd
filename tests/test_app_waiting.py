# SPDX-License-Identifier: Apache-2.0
"""Places and streams: what is too much is refused, and who leaves frees what they held."""

from __future__ import annotations

import asyncio
import threading

import pytest

from medreasoner_infer.errors import CancelledError
from monailabel_app.errors import ServerBusyError
from monailabel_app.inference.gate import Places

pytest.importorskip("monailabel")

from fastapi.responses import Response

from monailabel_app.common.waiting import caller_has_left
from monailabel_app.web.routes.serving import run_in_thread, while_connected
from monailabel_app.web.streaming import running
from monailabel_app.web.streaming.running import RunningStreams

CEILING_S = 20


class Connected:
    """A request whose client stays until it leaves."""

    def __init__(self) -> None:
        self.left = False

    async def is_disconnected(self) -> bool:
        return self.left


def test_no_thread_is_started_for_what_is_too_much() -> None:
    places, proceed, started = Places(2), threading.Event(), []

    def work(cancelled) -> str:
        started.append(threading.current_thread())
        assert proceed.wait(CEILING_S)
        return "done"

    async def ask() -> list[object]:
        asked = [
            asyncio.create_task(run_in_thread(Connected(), work, places=places)) for _ in range(2)
        ]
        while len(started) < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(ServerBusyError, match="2 requests already"):
            await run_in_thread(Connected(), work, places=places)
        proceed.set()
        return await asyncio.gather(*asked)

    assert asyncio.run(ask()) == ["done", "done"]
    assert len(started) == 2
    assert places.taken == 0


def test_one_caller_cannot_take_all_places() -> None:
    places = Places(4, most_each=2)
    with places.place("ann"), places.place("ann"):
        with pytest.raises(ServerBusyError, match="2 of your requests"), places.place("ann"):
            pass
        with places.place("bob"):
            assert places.taken == 3
    assert places.taken == 0


def test_work_is_told_that_its_reader_has_left_wherever_it_asks() -> None:
    request = Connected()

    def work(cancelled) -> None:
        request.left = True
        for _ in range(CEILING_S * 100):
            if caller_has_left():
                raise CancelledError("left")
            threading.Event().wait(0.01)

    with pytest.raises(CancelledError):
        asyncio.run(run_in_thread(request, work))


def test_what_a_reader_waits_for_is_stopped_when_they_leave() -> None:
    request, ended = Connected(), []

    async def work() -> None:
        request.left = True
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    with pytest.raises(CancelledError):
        asyncio.run(while_connected(request, work()))
    assert ended == [True]


# --- streams -------------------------------------------------------------------------------------


def test_too_many_streams_are_refused_before_they_start() -> None:
    async def ask() -> None:
        places = Places(1)
        streams = RunningStreams(places)
        response = streams.respond(lambda emit, cancelled: None)
        assert isinstance(response, Response)
        with pytest.raises(ServerBusyError):
            streams.respond(lambda emit, cancelled: None)

    asyncio.run(ask())


def test_a_client_that_leaves_before_the_first_event_gives_its_place_back() -> None:
    async def ask() -> Places:
        places = Places(1)
        response = RunningStreams(places).respond(lambda emit, cancelled: None)

        async def gone() -> dict:
            return {"type": "http.disconnect"}

        async def send(message) -> None:
            await asyncio.sleep(3600)

        await response({"type": "http", "method": "GET"}, gone, send)
        for _ in range(100):
            if not places.taken:
                break
            await asyncio.sleep(0.01)
        return places

    assert asyncio.run(ask()).taken == 0


def test_work_for_a_client_that_does_not_read_ends_and_little_is_kept(monkeypatch) -> None:
    monkeypatch.setattr(running, "MOST_UNREAD_CHARS", 10_000)
    emitted, ended = [], threading.Event()

    def work(emit, cancelled) -> None:
        try:
            while True:
                emit("mask", {"runs": "x" * 1000})
                emitted.append(1)
        finally:
            ended.set()

    async def read_one_and_stall() -> None:
        events = RunningStreams(Places(1), unread_s=0.3).events(work, None)
        await anext(events)
        assert await asyncio.to_thread(ended.wait, CEILING_S)
        await events.aclose()

    asyncio.run(read_one_and_stall())
    assert len(emitted) < 20


def test_a_slow_reader_gets_everything(monkeypatch) -> None:
    monkeypatch.setattr(running, "MOST_UNREAD_CHARS", 5000)

    def work(emit, cancelled) -> None:
        for number in range(30):
            emit("text", {"text": str(number) + "x" * 1000})
        emit("mask", {"runs": "y" * 50_000})

    async def read_slowly() -> int:
        count = 0
        async for _ in RunningStreams(Places(1), unread_s=5).events(work, None):
            count += 1
            await asyncio.sleep(0.005)
        return count

    assert asyncio.run(read_slowly()) == 32
