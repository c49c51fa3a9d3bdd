# SPDX-License-Identifier: Apache-2.0
"""Freed memory goes back to the machine while the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest

pytest.importorskip("monailabel")

from monailabel_app.web import memory


def test_the_c_library_of_this_machine_can_give_memory_back() -> None:
    if sys.platform != "linux":
        pytest.skip("glibc is Linux's")
    trim = memory.trimmer()
    assert trim is not None
    assert trim(0) in (0, 1)


def test_memory_is_given_back_again_and_again_until_the_server_ends(monkeypatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(memory, "_PERIOD_S", 0.001)
    monkeypatch.setattr(memory, "trimmer", lambda: calls.append)

    async def serve() -> None:
        trimming = asyncio.create_task(memory.give_back_regularly())
        while len(calls) < 3:
            await asyncio.sleep(0.001)
        trimming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await trimming

    asyncio.run(serve())
    assert set(calls) == {0}


def test_another_c_library_is_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(memory, "trimmer", lambda: None)
    asyncio.run(memory.give_back_regularly())
