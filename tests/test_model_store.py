# SPDX-License-Identifier: Apache-2.0
"""The store of candidates: what it takes, what it refuses, and who is live."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from filelock import FileLock
from safetensors.numpy import save_file

from medreasoner_infer.home import models_folder
from medreasoner_infer.models.store import (
    CandidateChangedError,
    CandidateRefusedError,
    LiveChangedError,
    NothingToRollBackError,
    Provenance,
    ReasonerStore,
    StoreDamagedError,
    UnknownCandidateError,
)

PROVENANCE = Provenance("embedded", "d" * 64, "1.2.3", 7, {"lr": 1e-6}, {"box_iou": 0.5})


def model_folder(path, value=0.0):
    path.mkdir()
    save_file({"weight": np.full(4, value, np.float32)}, path / "model.safetensors")
    (path / "config.json").write_text("{}")
    return path


def adapter_folder(path):
    path.mkdir()
    save_file({"lora_A": np.ones(4, np.float32)}, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text("{}")
    return path


@pytest.fixture
def store(tmp_path):
    return ReasonerStore(tmp_path / "models")


@pytest.fixture
def two(store, tmp_path):
    """A store with the candidates a and b."""
    for value, name in enumerate("ab"):
        store.add(model_folder(tmp_path / name, value), PROVENANCE, name=name)
    return store


def overwrite(path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def live_name(store):
    live = store.live()
    return None if live is None else live.name


def test_candidate_holds_provenance_and_the_hash_of_each_file(store, tmp_path):
    source = model_folder(tmp_path / "source")
    store.add(source, PROVENANCE, name="first")
    written = json.loads((store.folder / "candidates/first/candidate.json").read_text())
    assert written["provenance"]["data_manifest_sha256"] == "d" * 64
    assert written["provenance"]["config"] == {"lr": 1e-6}
    assert written["kind"] == "model"
    assert written["files_sha256"] == {
        name: hashlib.sha256((source / name).read_bytes()).hexdigest()
        for name in ("config.json", "model.safetensors")
    }
    read = ReasonerStore(store.folder).candidate("first")
    assert read.provenance == PROVENANCE


def test_licence_and_notice_come_from_the_base_and_then_from_the_parent(store, tmp_path):
    store.add(
        model_folder(tmp_path / "a"), Provenance("lingshu-7b", "d" * 64, "1", 0), name="parent"
    )
    child = Provenance("embedded", "d" * 64, "1", 0, parent="parent")
    added = store.add(adapter_folder(tmp_path / "b"), child, name="child")
    assert added.kind == "adapter"
    assert added.licence == "MIT (see the model's card)"
    assert "red teaming" in added.notice


def test_unknown_parent_is_refused(store, tmp_path):
    orphan = Provenance("embedded", "d" * 64, "1", 0, parent="nobody")
    with pytest.raises(UnknownCandidateError, match="nobody"):
        store.add(model_folder(tmp_path / "a"), orphan)
    assert store.names() == ()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "optimizer.pt", "x.pkl", "model.ckpt", "run.py", ".hidden.json"]
)
def test_anything_but_safetensors_and_text_is_refused(store, tmp_path, name):
    source = model_folder(tmp_path / "source")
    (source / name).write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(CandidateRefusedError, match=name):
        store.add(source, PROVENANCE, name="bad")
    assert store.names() == ()


def test_pickle_renamed_to_safetensors_is_refused(store, tmp_path):
    source = model_folder(tmp_path / "source")
    (source / "more.safetensors").write_bytes(pickle.dumps(list(range(100))))
    with pytest.raises(CandidateRefusedError, match="is none"):
        store.add(source, PROVENANCE, name="bad")


def test_links_and_subfolders_are_refused(store, tmp_path):
    linked = model_folder(tmp_path / "linked")
    (linked / "other.json").symlink_to(linked / "config.json")
    nested = model_folder(tmp_path / "nested")
    (nested / "checkpoint-1").mkdir()
    for source, name in ((linked, "other.json"), (nested, "checkpoint-1")):
        with pytest.raises(CandidateRefusedError, match=name):
            store.add(source, PROVENANCE)


@pytest.mark.parametrize("name", ["../up", "a/b", ".", "Upper", "embedded", "live", "x" * 65])
def test_name_that_is_no_plain_folder_or_means_something_else_is_refused(store, tmp_path, name):
    source = model_folder(tmp_path / "source")
    with pytest.raises(CandidateRefusedError):
        store.add(source, PROVENANCE, name=name)


def test_candidates_without_a_name_get_different_ones(store, tmp_path):
    source = model_folder(tmp_path / "source")
    added = {store.add(source, PROVENANCE).name for _ in range(2)}
    assert added == set(store.names())
    assert len(added) == 2


def test_candidate_is_never_replaced(two, tmp_path):
    before = two.candidate("a").files_sha256
    with pytest.raises(CandidateRefusedError, match="never change"):
        two.add(model_folder(tmp_path / "c", 9.0), PROVENANCE, name="a")
    assert two.candidate("a").files_sha256 == before


def test_nothing_is_live_at_first(two):
    assert two.live() is None
    assert two.history() == ()
    with pytest.raises(NothingToRollBackError):
        two.rollback(by="reader")


def test_rollback_restores_one_promotion_after_the_other(two):
    two.promote("a", by="gate")
    two.promote("b", by="gate", reasons=["Better."])
    assert live_name(two) == "b"
    for expected in ("a", None):
        two.rollback(by="dr")
        assert live_name(two) == expected
    told = [(event.action, event.candidate, event.live, event.by) for event in two.history()]
    assert told == [
        ("promoted", "a", "a", "gate"),
        ("promoted", "b", "b", "gate"),
        ("rolled back", "b", "a", "dr"),
        ("rolled back", "a", None, "dr"),
    ]
    assert two.history()[1].reasons == ("Better.",)


def test_history_is_only_appended_to(two):
    two.promote("a", by="gate")
    before = (two.folder / "history.jsonl").read_bytes()
    two.refuse("b", by="gate", reasons=["The liver got worse."])
    after = (two.folder / "history.jsonl").read_bytes()
    assert after.startswith(before)
    assert json.loads(after[len(before) :])["reasons"] == ["The liver got worse."]
    assert live_name(two) == "a"


def test_changed_weights_are_not_promoted_and_the_live_model_stays(two):
    two.promote("a", by="gate")
    weights = two.folder / "candidates/b/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    overwrite(weights, bytes(data))
    with pytest.raises(CandidateChangedError, match=r"model\.safetensors was changed"):
        two.promote("b", by="gate")
    assert live_name(two) == "a"


def test_added_or_removed_file_is_noticed(two):
    (two.folder / "candidates/a/more.json").write_text("{}")
    (two.folder / "candidates/b/config.json").unlink()
    for name, odd in (("a", "more.json"), ("b", "config.json")):
        with pytest.raises(CandidateChangedError, match=odd):
            two.verify(two.candidate(name))


def test_hashes_rewritten_together_with_the_weights_are_noticed_when_live(two, tmp_path):
    two.promote("a", by="gate")
    record = two.folder / "candidates/a/candidate.json"
    weights = two.folder / "candidates/a/model.safetensors"
    fields = json.loads(record.read_text())
    overwrite(weights, (two.folder / "candidates/b/model.safetensors").read_bytes())
    fields["files_sha256"]["model.safetensors"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    overwrite(record, json.dumps(fields).encode())
    two.verify(two.candidate("a"))
    with pytest.raises(CandidateChangedError, match=r"candidate\.json was changed"):
        two.live()


def test_rollback_to_a_changed_candidate_is_refused_and_the_live_one_stays(two):
    two.promote("a", by="gate")
    two.promote("b", by="gate")
    overwrite(two.folder / "candidates/a/config.json", b"[]")
    with pytest.raises(CandidateChangedError):
        two.rollback(by="dr")
    assert live_name(two) == "b"


def test_promotion_after_a_comparison_with_another_live_model_is_refused(two):
    two.promote("a", by="gate")
    with pytest.raises(LiveChangedError, match="compared with the embedded reasoner, but a"):
        two.promote("b", by="gate", expected_live=None)
    two.promote("b", by="gate", expected_live="a")
    assert live_name(two) == "b"


def test_live_candidate_is_not_promoted_twice(two):
    two.promote("a", by="gate")
    with pytest.raises(CandidateRefusedError, match="live already"):
        two.promote("a", by="gate")


def test_unknown_candidate_is_named_with_those_that_exist(two):
    with pytest.raises(UnknownCandidateError, match="it holds a, b"):
        two.promote("c", by="gate")


def test_damaged_pointer_is_an_error_and_not_taken_for_nothing_live(two):
    two.promote("a", by="gate")
    (two.folder / "live.json").write_text('{"entries": [')
    with pytest.raises(StoreDamagedError, match=r"live\.json"):
        two.live()


def test_damaged_line_inside_the_history_is_an_error(two):
    two.promote("a", by="gate")
    path = two.folder / "history.jsonl"
    path.write_text("garbage\n" + path.read_text())
    with pytest.raises(StoreDamagedError, match="Line 1"):
        two.history()


def test_decisions_of_several_threads_are_all_on_record(two):
    def refuse(number):
        two.refuse("ab"[number % 2], by=f"thread {number}", reasons=["No."])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(refuse, range(20)))
    assert {event.by for event in two.history()} == {f"thread {number}" for number in range(20)}


def test_attempts_are_counted_by_run_and_live_model_and_survive_a_restart(two):
    assert two.attempt_number() == 1
    assert [two.count_attempt(run, "a") for run in ("r1", "r2", "r1")] == [1, 2, 1]
    again = ReasonerStore(two.folder)
    assert again.attempt_number() == 3
    assert (again.attempt_number("r2"), again.count_attempt("r3", "b")) == (2, 3)
    again.promote("a", by="gate")
    assert again.attempt_number("r1") == 1
    assert again.count_attempt("r4", "b") == 1
    again.rollback(by="dr")
    assert again.attempt_number() == 4


def test_an_attempt_cut_short_by_a_crash_does_not_count_and_a_damaged_one_is_an_error(two):
    two.count_attempt("r1", "a")
    path = two.folder / "attempts.jsonl"
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 2])
    assert two.count_attempt("r2", "b") == 2
    assert two.attempt_number() == 3
    path.write_text("garbage\n" + whole)
    with pytest.raises(StoreDamagedError, match=r"Line 1 of .* is no attempt"):
        two.attempt_number()


def test_attempts_of_several_threads_have_numbers_of_their_own(two):
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda n: two.count_attempt(f"r{n}", "a"), range(20)))
    assert sorted(numbers) == list(range(1, 21))


def test_switch_need_not_wait_for_a_model_that_is_being_copied(two):
    two.promote("a", by="gate")
    with FileLock(two.folder / ".add.lock"):
        two.rollback(by="dr")
    assert two.live() is None


def test_store_lies_in_the_home_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path))
    assert models_folder() == tmp_path / "models"


def test_importing_the_store_loads_nothing_heavy():
    code = (
        "import sys, medreasoner_infer.models.store;"
        "heavy = {'torch', 'transformers', 'openai', 'httpx', 'peft', 'safetensors'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
