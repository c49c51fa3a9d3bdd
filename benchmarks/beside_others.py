# SPDX-License-Identifier: Apache-2.0
"""How long a click and ``/info/`` take while others search and propagate, against an idle server.

A part of ``ten_readers.py``. Idle and busy take turns, so that both meet the same load.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from monailabel_app.viewers.slicer.MedReasoner.MedReasonerLib.client import Client, Server, Target

Position = tuple[float, float, float]
_BLOCKS, _CLICKS = 4, 15
_JITTER_MM = 4.0
_TIMEOUT_S = 600


@dataclass(frozen=True)
class Reader:
    """Whose image is clicked on or asked about, and where (LPS mm, on an axial slice)."""

    image_id: str
    position_lps_mm: Position
    question: str


@dataclass
class Seconds:
    """What a click took until its mask had come, and ``/info/`` right after it."""

    clicks: list[float] = field(default_factory=list)
    info: list[float] = field(default_factory=list)


def measure(server: Server, clicking: Reader, others: Sequence[Reader]) -> tuple[Seconds, Seconds]:
    """Idle, and while half of the others search and half propagate, again and again."""
    idle, busy = Seconds(), Seconds()
    _click_and_probe(server, clicking, Seconds())  # what is loaded at the first click is no fault
    for _ in range(_BLOCKS):
        _click_and_probe(server, clicking, idle)
        with _asking(server, others):
            _click_and_probe(server, clicking, busy)
    return idle, busy


def _click_and_probe(server: Server, reader: Reader, seconds: Seconds) -> None:
    client = Client(server)
    x, y, z = reader.position_lps_mm
    with httpx.Client(timeout=_TIMEOUT_S) as web:
        for number in range(_CLICKS):
            point = (x + _JITTER_MM * (number % 3 - 1), y + _JITTER_MM * (number % 5 - 2), z)
            values = {"inside": [point], "plane": "axial"}
            stream = client.segment(Target(reader.image_id), values)
            seconds.clicks.append(_until_mask(stream))
            seconds.info.append(_timed(lambda: web.get(f"{server.address}/info/")))


def _until_mask(stream: Any) -> float:
    started, mask_s = time.perf_counter(), None
    for event in stream:
        if event.name == "mask":
            mask_s = mask_s or time.perf_counter() - started
        elif event.name == "error":
            raise RuntimeError(event.data["detail"])
    if mask_s is None:
        raise RuntimeError("A click has no mask.")
    return mask_s


def _timed(work: Callable[[], httpx.Response]) -> float:
    started = time.perf_counter()
    work().raise_for_status()
    return time.perf_counter() - started


@contextmanager
def _asking(server: Server, readers: Sequence[Reader]) -> Iterator[None]:
    """Every other reader propagates from a slice, the rest have a slice searched for."""
    over, begun = threading.Event(), threading.Barrier(len(readers) + 1)

    def work(number: int, reader: Reader) -> None:
        client, values = Client(server), _values(reader, propagates=number % 2 == 0)
        begun.wait(_TIMEOUT_S)
        while not over.is_set():
            for event in client.ask(Target(reader.image_id), values):
                if event.name == "error":
                    raise RuntimeError(event.data["detail"])

    with ThreadPoolExecutor(len(readers)) as pool:
        working = [pool.submit(work, *each) for each in enumerate(readers)]
        try:
            begun.wait(_TIMEOUT_S)
            yield
        finally:
            over.set()
    for each in working:
        each.result()


def _values(reader: Reader, *, propagates: bool) -> Mapping[str, Any]:
    if not propagates:
        return {"query": reader.question, "plane": "axial"}
    placed = {"position": reader.position_lps_mm, "plane": "axial", "propagate": True}
    return {"query": reader.question, **placed}
