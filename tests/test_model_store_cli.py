# SPDX-License-Identifier: Apache-2.0
"""Promotion, refusal, rollback and merge as a user types them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from medreasoner_infer.models.store import LiveChangedError, Provenance, ReasonerStore
from medreasoner_training.gate import GateConfig, HeldOut, ModelScores, decide
from medreasoner_training.gate.errors import GateReportError
from monailabel_app.cli.app import app


def run(*arguments):
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    store = ReasonerStore()
    for value, name in enumerate(("site-a", "site-b")):
        source = tmp_path / name
        source.mkdir()
        save_file({"weight": np.full(4, value, np.float32)}, source / "model.safetensors")
        (source / "config.json").write_text("{}")
        store.add(source, Provenance("embedded", "d" * 64, "1", 0), name=name)
    return store


def write_report(path, candidate, live, gain):
    n = 30
    truth = HeldOut(np.arange(n), np.array(["liver"] * n), np.ones(n, bool))
    no = np.zeros(n, bool)
    scores = [
        ModelScores(name, no, no, np.full(n, iou))
        for name, iou in ((candidate, 0.5 + gain), (live, 0.5))
    ]
    report = decide(truth, *scores, GateConfig(resamples=100))
    path.write_text(json.dumps(report.to_dict()))
    return path


@pytest.mark.parametrize("arguments", [(), ("list",)])
def test_models_and_models_list_show_the_registry_and_the_site_s_own(store, arguments):
    store.promote("site-a", by="test")
    output = run(*arguments).output
    for name in ("lingshu-7b", "medsam2", "site-a (live)", "site-b"):
        assert name in output


def test_accepted_candidate_goes_live_with_the_gate_s_reasons(store, tmp_path):
    report = write_report(tmp_path / "report.json", "site-a", "embedded", gain=0.1)
    result = run("promote", "site-a", "--report", report, "--by", "dr")
    assert result.exit_code == 0, result.output
    assert store.live().name == "site-a"
    (event,) = store.history()
    assert event.by == "dr"
    assert event.reasons[0].startswith("Box IoU is 0.600 against 0.500 of the live model")


def test_refused_candidate_stays_out_and_the_refusal_is_on_record(store, tmp_path):
    report = write_report(tmp_path / "report.json", "site-a", "embedded", gain=-0.05)
    result = run("promote", "site-a", "--report", report)
    assert result.exit_code == 1
    assert "does not lie above the gain" in result.output
    assert store.live() is None
    (event,) = store.history()
    assert event.action == "refused"
    assert len(event.reasons) == 1


def test_report_about_another_candidate_or_an_older_live_model_promotes_nothing(store, tmp_path):
    report = write_report(tmp_path / "report.json", "site-a", "embedded", gain=0.1)
    assert run("promote", "site-b", "--report", report).exit_code == 2
    store.promote("site-b", by="test")
    result = run("promote", "site-a", "--report", report)
    assert isinstance(result.exception, LiveChangedError)
    assert store.live().name == "site-b"


def test_file_that_is_no_report_promotes_nothing(store, tmp_path):
    path = tmp_path / "report.json"
    path.write_text('{"candidate": "site-a", "promote": true}')
    assert isinstance(run("promote", "site-a", "--report", path).exception, GateReportError)
    assert store.live() is None


def test_promotion_without_the_gate_needs_a_reason_which_is_kept(store):
    assert run("promote", "site-a").exit_code == 2
    assert run("promote", "site-a", "--without-gate", "Comparison of readers.").exit_code == 0
    assert store.history()[0].reasons == (
        "Without the gate: Comparison of readers.",
        "The gate has not refused it; nobody has shown that it is better.",
    )


def test_promotion_against_the_gate_says_and_keeps_what_it_overrides(store, tmp_path):
    report = write_report(tmp_path / "report.json", "site-a", "embedded", gain=-0.05)
    assert run("promote", "site-a", "--report", report).exit_code == 1
    refused = store.history()[0]
    result = run("promote", "site-a", "--without-gate", "Readers prefer it.", "--by", "dr")
    assert store.live().name == "site-a"
    told = store.history()[1].reasons
    assert told[:2] == (
        "Without the gate: Readers prefer it.",
        f"This overrides the refusal of {refused.at}:",
    )
    assert told[2:] == refused.reasons
    assert "does not lie above the gain" in result.output


def test_a_report_of_the_gate_that_asked_for_not_worse_promotes_nothing_today(store, tmp_path):
    path = write_report(tmp_path / "report.json", "site-a", "embedded", gain=0.1)
    fields = json.loads(path.read_text())
    for name in ("attempt", "patient_sd"):
        del fields[name]
    for name in ("gain", "guard_confidence"):
        del fields["config"][name]
    fields["config"]["margin"] = 0.02
    path.write_text(json.dumps(fields))
    result = run("promote", "site-a", "--report", path)
    assert result.exit_code == 2
    assert "compare the candidate anew" in result.output
    assert store.live() is None


def test_rollback_and_history(store):
    store.promote("site-a", by="test")
    store.promote("site-b", by="test")
    result = run("rollback", "--reason", "Misses the spleen.")
    assert "site-b is replaced by site-a" in result.output
    assert store.live().name == "site-a"
    told = run("history").output
    assert "rolled back" in told
    assert "Misses the spleen." in told


def test_history_tells_names_whole_on_a_narrow_terminal_too(store, monkeypatch):
    """So that what is to be promoted can be copied from it."""
    monkeypatch.setenv("COLUMNS", "40")
    assert "yet" in run("history").output
    store.refuse("site-a", by="medreasoner_training.finetune", reasons=["Box IoU fell by 0.2."])
    (event,) = store.history()
    first, second = run("history").output.splitlines()
    assert first == (
        f"{event.at} refused site-a, then live: embedded; medreasoner_training.finetune"
    )
    assert second.strip() == "Box IoU fell by 0.2."


@pytest.mark.slow
def test_merge_writes_a_full_model(tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForImageTextToText

    from medreasoner_infer.models.registry import resolve_model

    base = AutoModelForImageTextToText.from_pretrained(resolve_model("reasoner", "embedded").source)
    config = peft.LoraConfig(r=2, target_modules=r".*language_model.*q_proj")
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    result = run("merge", tmp_path / "adapter", "--out", tmp_path / "full", "--base", "embedded")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "full/merge.json").read_text())["base"] == "embedded"
    assert (tmp_path / "full/prompt.json").is_file()
