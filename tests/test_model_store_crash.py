# SPDX-License-Identifier: Apache-2.0
"""A crash at any moment leaves the last good state of the store."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from medreasoner_infer.models.store import Provenance, ReasonerStore

PROVENANCE = Provenance("embedded", "d" * 64, "1", 0)
KILLS = 12


class PowerLossError(BaseException):
    """Not an ``Exception``: nothing may catch it and go on."""


class Disk:
    """Counts the calls that reach the disk, and fails at the one asked for."""

    CALLS = ("fsync", "replace", "rename")

    def __init__(self, monkeypatch, fail_at=None, *, after=False):
        self.count = 0
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self._guard(getattr(os, name), fail_at, after))

    def _guard(self, call, fail_at, after):
        def guarded(*arguments, **options):
            self.count += 1
            fails = self.count == fail_at
            if fails and not after:
                raise PowerLossError
            result = call(*arguments, **options)
            if fails:
                raise PowerLossError
            return result

        return guarded


def model_folder(path, value):
    path.mkdir(parents=True)
    save_file({"weight": np.full(4, value, np.float32)}, path / "model.safetensors")
    (path / "config.json").write_text("{}")
    return path


def fresh_store(folder, names="ab"):
    store = ReasonerStore(folder / "models")
    for value, name in enumerate(names):
        source = model_folder(folder / "sources" / name, value)
        store.add(source, PROVENANCE, name=name)
    store.promote("a", by="test")
    return store


def check_whole(store):
    """All candidates and the live one are intact, and the history ends where live.json is."""
    for name in store.names():
        store.verify(store.candidate(name))
    live = store.live()
    switches = [event for event in store.history() if event.action != "refused"]
    ids = [event.event_id for event in store.history()]
    assert len(ids) == len(set(ids))
    assert (live.name if live else None) == (switches[-1].live if switches else None)
    return live.name if live else None


def add(store, folder):
    store.add(folder / "sources" / "a", PROVENANCE, name="c")


def promote(store, folder):
    store.promote("b", by="test")


def rollback(store, folder):
    store.rollback(by="test")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("operation", "allowed"),
    [(add, {"a"}), (promote, {"a", "b"}), (rollback, {"a", None})],
    ids=["add", "promote", "rollback"],
)
def test_failure_at_any_step_leaves_the_old_or_the_new_state(
    tmp_path, monkeypatch, operation, allowed, after
):
    with monkeypatch.context() as patched:
        counted = tmp_path / "counted"
        store = fresh_store(counted)
        disk = Disk(patched)
        operation(store, counted)
    assert disk.count >= 3
    seen = set()
    for step in range(1, disk.count + 1):
        folder = tmp_path / f"step-{step}"
        store = fresh_store(folder)
        with monkeypatch.context() as patched:
            Disk(patched, step, after=after)
            with pytest.raises(PowerLossError):
                operation(store, folder)
        again = ReasonerStore(folder / "models")
        live = check_whole(again)
        seen.add(live)
        assert live in allowed
        assert again.names() in (("a", "b"), ("a", "b", "c"))
        if "c" not in again.names():
            add(again, folder)  # nothing that the crash left stands in the way
        again.promote("c", by="test")
        assert check_whole(again) == "c"
    assert seen == allowed


def test_event_of_a_switch_is_told_although_the_history_was_not_written(tmp_path, monkeypatch):
    store = fresh_store(tmp_path)
    with monkeypatch.context() as patched:
        Disk(patched, 3, after=True)  # file, rename, folder: live.json is switched
        with pytest.raises(PowerLossError):
            store.promote("b", by="test")
    assert '"b"' not in (store.folder / "history.jsonl").read_text()
    assert [event.live for event in store.history()] == ["a", "b"]
    store.refuse("a", by="test", reasons=["Older."])
    assert [event.action for event in store.history()] == ["promoted", "promoted", "refused"]


def test_line_cut_short_by_a_crash_is_dropped_and_not_glued_to_the_next(tmp_path):
    store = fresh_store(tmp_path)
    with (store.folder / "history.jsonl").open("ab") as file:
        file.write('{"by": "Zoë'.encode()[:-1])  # in the middle of a letter
    assert len(store.history()) == 1
    store.promote("b", by="test")
    assert [event.live for event in store.history()] == ["a", "b"]


WORKER = """
import sys
from pathlib import Path
from medreasoner_infer.models.store import Provenance, ReasonerStore
folder = Path(sys.argv[1])
store = ReasonerStore(folder / "models")
print("ready", flush=True)
number = len(store.names())
while True:
    live = store.live()
    store.promote("b" if live is None or live.name == "a" else "a", by="worker")
    store.add(folder / "sources/a", Provenance("embedded", "d" * 64, "1", 0), name=f"n{number}")
    store.refuse(f"n{number}", by="worker", reasons=["No."])
    store.rollback(by="worker")
    store.promote(f"n{number}", by="worker")
    number += 1
"""


def test_killed_process_leaves_a_whole_store(tmp_path):
    chance = random.Random(0)
    store = fresh_store(tmp_path)
    for _ in range(KILLS):
        command = [sys.executable, "-c", WORKER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0.0, 0.3))
            worker.send_signal(signal.SIGKILL)
        check_whole(store)
    assert len(store.history()) > KILLS  # the workers did something
