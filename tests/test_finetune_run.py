# SPDX-License-Identifier: Apache-2.0
"""Whole runs with the embedded reasoner: resumed, stopped, promoted, refused, failed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

pytest.importorskip("datasets", reason="the extra 'train' is not installed")
pytest.importorskip("trl", reason="the extra 'train' is not installed")
pytest.importorskip("peft", reason="the extra 'train' is not installed")

from support.runs import make_run_folder, make_site

import medreasoner_infer
from medreasoner_infer.models.store import ReasonerStore
from medreasoner_training.finetune import State, read_progress
from medreasoner_training.finetune.checkpoints import newest_complete
from medreasoner_training.finetune.run import ExitCode, run
from medreasoner_training.gate import GateReport, ModelScores

pytestmark = pytest.mark.slow

EMBEDDED = Path(medreasoner_infer.__file__).parent / "embedded" / "reasoner"
STEPS = 3
CONFIG = f"""
method: grpo
tuning: full
data: {{folder: ../set, augment: false}}
sft: {{batch: 2, micro_batch: 2}}
grpo:
  steps: {STEPS}
  prompts_per_step: 2
  generations: 2
  max_completion_tokens: 64
  learning_rate: 1.0e-3
  warmup_steps: 0
rewards: {{mode: hard}}
run: {{device: cpu, save_steps: 100, eval_steps: 2, eval_samples: 2}}
promotion: {{store: store, name: tuned, promote: false, blend: 1.0}}
gate: {{min_patients: 2, resamples: 100}}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with a data set of five patients, three of whom train."""
    return make_site(tmp_path_factory.mktemp("site"))


def make_run(site: Path, name: str, config: str = CONFIG) -> Path:
    return make_run_folder(site, name, config)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def finished(site) -> Path:
    """A run that was never interrupted and only compares."""
    folder = make_run(site, "finished")
    assert run(folder) is ExitCode.OK
    return folder


@pytest.fixture(scope="module")
def several(site) -> Path:
    """The same run with two trainings."""
    folder = make_run(site, "several", CONFIG.replace("run: {", "run: {trainings: 2, "))
    assert run(folder) is ExitCode.OK
    return folder


def copied(finished: Path, name: str) -> Path:
    """The run as it was after training, before anything was compared."""
    folder = finished.parent / name
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("store", "gate_report.json"))
    return folder


def promoting(folder: Path) -> Path:
    return changed(folder, "promote: false", "promote: true")


def changed(folder: Path, old: str, new: str) -> Path:
    """The run as if it had been started with another setting, each as ``key: value``."""
    for name, quote in (("config.yaml", ""), ("run.json", '"')):
        path = folder / name
        as_written = (quote + text.replace(":", f"{quote}:") for text in (old, new))
        path.write_text(path.read_text().replace(*as_written))
    return folder


def test_a_run_ends_as_a_candidate_with_its_provenance(finished):
    progress = read_progress(finished)
    assert (progress.state, progress.step, progress.total_steps) == (State.FINISHED, STEPS, STEPS)
    assert 0.0 <= progress.held_out_iou <= progress.best_iou <= 1.0
    store = ReasonerStore(finished / "store")
    candidate = store.candidate(progress.candidate)
    manifest = finished.parent / "set" / "manifest.json"
    assert (candidate.name, candidate.kind, store.live()) == ("tuned", "model", None)
    assert candidate.provenance.data_manifest_sha256 == sha256(manifest)
    assert candidate.provenance.base == "embedded"
    assert candidate.provenance.config["grpo"]["steps"] == STEPS
    assert candidate.provenance.metrics["box_iou_candidate"] == progress.held_out_iou
    assert candidate.provenance.metrics["box_iou_patient_sd"] >= 0.0
    report = GateReport.read(finished / "gate_report.json")
    assert report.attempt == 1
    assert store.attempt_number() == 2
    card = (candidate.folder / "README.md").read_text()
    assert "3 supervised" not in card
    assert "Comparison with the live model" in card
    assert any((finished / "tensorboard" / "grpo").iterdir())


def test_rewards_reach_the_trainer_under_their_names(finished):
    state = json.loads((finished / "grpo" / "checkpoint-3" / "trainer_state.json").read_text())
    logged = [line for line in state["log_history"] if "reward" in line]
    assert len(logged) == STEPS
    for line in logged:
        terms = {key for key in line if key.startswith("rewards/") and key.endswith("/mean")}
        assert len(terms) == 8
        assert "rewards/bbox_align/mean" in terms
        assert line["reward"] == pytest.approx(sum(line[term] for term in terms), abs=1e-4)


def test_training_changes_the_weights_and_leaves_the_base_alone(finished):
    trained = finished / "grpo" / "model" / "model.safetensors"
    assert sha256(trained) != sha256(EMBEDDED / "model.safetensors")


def test_a_stopped_run_resumes_to_the_very_same_weights(site, finished, monkeypatch):
    """Weights are equal bit by bit on one CPU; the stop falls between two evaluations."""
    folder = make_run(site, "stopped")
    with monkeypatch.context() as patch:
        patch.setattr("medreasoner_training.finetune.callbacks.stop_requested", lambda _: True)
        assert run(folder) is ExitCode.STOPPED
    progress = read_progress(folder)
    assert (progress.state, progress.step) == (State.STOPPED, 1)
    assert newest_complete(folder / "grpo").name == "checkpoint-1"
    half_written = folder / "grpo" / "checkpoint-2"
    half_written.mkdir()
    (half_written / "model.safetensors").write_bytes(b"torn")
    assert run(folder) is ExitCode.OK
    assert not half_written.exists()
    for name in ("model.safetensors", "prompt.json", "config.json"):
        assert sha256(folder / "grpo/model" / name) == sha256(finished / "grpo/model" / name)
    first, second = (moments(each / "grpo/checkpoint-3") for each in (folder, finished))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def moments(checkpoint: Path) -> dict:
    """AdamW's first moments by the number of their weight."""
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
    return {key: value["exp_avg"] for key, value in state.items()}


def fake_scores(
    monkeypatch, candidate_iou: float, live_iou: float, former_iou: float = 0.5
) -> None:
    """Let both models score so at the site, and the candidate ``former_iou`` on phantoms."""

    def score(reasoner, raw, *, name, **_):
        count = len(raw)
        none = np.zeros(count, bool)
        iou = candidate_iou if name == "tuned" else live_iou
        if name == "tuned" and raw["extra_info"][0]["window"] == "phantom":
            iou = former_iou
        return ModelScores(name, none, none, np.full(count, iou))

    monkeypatch.setattr("medreasoner_training.finetune.comparison.score_reasoner", score)


def test_the_candidate_lies_between_its_parent_and_the_trained_model(finished, monkeypatch):
    folder = changed(copied(finished, "blended"), "blend: 1.0", "blend: 0.5")
    fake_scores(monkeypatch, 0.5, 0.5)
    assert run(folder) is ExitCode.OK
    candidate = ReasonerStore(folder / "store").candidate("tuned")
    files = (EMBEDDED, folder / "grpo/model", candidate.folder)
    parent, trained, blended = (load_file(each / "model.safetensors") for each in files)
    assert not all(torch.equal(parent[name], trained[name]) for name in parent)
    for name, weights in blended.items():
        torch.testing.assert_close(weights, (parent[name] + trained[name]) / 2, rtol=0, atol=1e-6)
    assert "weights to the trained ones: 0.5" in (candidate.folder / "README.md").read_text()


def test_the_candidate_of_several_trainings_is_the_mean_of_theirs(finished, several):
    progress = read_progress(several)
    assert (progress.step, progress.total_steps) == (2 * STEPS, 2 * STEPS)
    candidate = ReasonerStore(several / "store").candidate("tuned").folder
    files = (several / "grpo/model", several / "grpo-2/model", candidate, finished / "grpo/model")
    first, second, mean, alone = (load_file(each / "model.safetensors") for each in files)
    assert all(torch.equal(first[name], alone[name]) for name in alone)
    assert not all(torch.equal(first[name], second[name]) for name in first)
    for name, weights in mean.items():
        torch.testing.assert_close(weights, (first[name] + second[name]) / 2, rtol=0, atol=1e-6)
    assert "trainings with the seeds 0 to 1" in (candidate / "README.md").read_text()
    assert any((several / "tensorboard" / "grpo-2").iterdir())


def test_a_training_that_is_done_is_not_done_again(several, monkeypatch):
    folder = copied(several, "several again")
    for name in ("grpo-2", "blended"):
        shutil.rmtree(folder / name)
    weights = folder / "grpo/model/model.safetensors"
    done = weights.stat().st_mtime_ns
    fake_scores(monkeypatch, 0.5, 0.5)
    assert run(folder) is ExitCode.OK
    assert weights.stat().st_mtime_ns == done
    assert (folder / "grpo-2/model").is_dir()


def test_a_better_candidate_goes_live(finished, monkeypatch):
    folder = promoting(copied(finished, "better"))
    fake_scores(monkeypatch, 0.9, 0.5)
    assert run(folder) is ExitCode.OK
    assert read_progress(folder).state is State.PROMOTED
    assert ReasonerStore(folder / "store").live().name == "tuned"
    assert run(folder) is ExitCode.OK  # once more does no harm
    assert len(ReasonerStore(folder / "store").history()) == 1
    assert ReasonerStore(folder / "store").attempt_number() == 1  # against the one that is live now


def test_a_candidate_that_answers_as_the_live_model_does_is_refused(finished, monkeypatch):
    folder = promoting(copied(finished, "no-op"))
    fake_scores(monkeypatch, 0.5, 0.5)
    assert run(folder) is ExitCode.REFUSED
    assert "nothing would change" in read_progress(folder).message
    assert ReasonerStore(folder / "store").live() is None


def test_other_runs_attempts_count_and_a_repeated_comparison_does_not(finished, monkeypatch):
    """The same scores go live at the first attempt, and at the fourth no more."""

    def score(reasoner, raw, *, name, **_):
        none = np.zeros(len(raw), bool)
        iou = np.linspace(0.4, 0.6, len(raw)) + (0.001 if name == "tuned" else 0.0)
        return ModelScores(name, none, none, iou)

    monkeypatch.setattr("medreasoner_training.finetune.comparison.score_reasoner", score)
    folder = promoting(copied(finished, "late"))
    store = ReasonerStore(folder / "store")
    for number in range(3):
        store.count_attempt(f"run {number}", "other")
    assert run(folder) is ExitCode.OK
    report = GateReport.read(folder / "gate_report.json")
    assert report.attempt == 4
    assert "attempt 4 against this live model" in report.sentences[0]


def test_a_new_run_does_not_take_the_name_of_a_candidate_of_another(site, finished):
    folder = make_run(site, "namesake", CONFIG.replace("store: store", "store: ../finished/store"))
    assert run(folder) is ExitCode.FAILED
    assert "holds a candidate 'tuned' of another run" in read_progress(folder).message


def test_power_is_told_before_anything_is_trained(finished, site, monkeypatch):
    told = []
    monkeypatch.setattr(
        "medreasoner_training.finetune.run.ProgressWriter.report",
        lambda self, state, message, **_: told.append(message),
    )
    monkeypatch.setattr("medreasoner_training.finetune.training.train_stage", lambda *_: False)
    text = CONFIG.replace("name: tuned", "name: second").replace("store:", "store: ../finished/")
    folder = make_run(site, "told", text.replace("../finished/ store", "../finished/store"))
    assert run(folder) is ExitCode.STOPPED
    (sentence,) = [message for message in told if "Loading the model" in message]
    assert sentence.startswith("2 patients are held out. This will be attempt 2 against")
    spread = ReasonerStore(finished / "store").candidate("tuned").provenance.metrics
    source = "as last measured here" if spread["box_iou_patient_sd"] else "assumed"
    assert source in sentence


def test_a_run_that_was_begun_under_the_old_gate_goes_on_under_the_new_one(finished, monkeypatch):
    folder = copied(finished, "old-gate")
    record = json.loads((folder / "run.json").read_text())
    for name in ("gain", "guard_confidence"):
        del record["config"]["gate"][name]
    record["config"]["gate"]["margin"] = 0.02
    (folder / "run.json").write_text(json.dumps(record))
    fake_scores(monkeypatch, 0.5, 0.5)
    assert run(folder) is ExitCode.OK
    assert "nothing would change" in read_progress(folder).message


def test_a_worse_candidate_is_refused_with_the_gate_s_reason(finished, monkeypatch):
    folder = promoting(copied(finished, "worse"))
    fake_scores(monkeypatch, 0.2, 0.5)
    assert run(folder) is ExitCode.REFUSED
    progress, store = read_progress(folder), ReasonerStore(folder / "store")
    assert progress.state is State.REFUSED
    assert "Box IoU is 0.200 against 0.500" in progress.message
    assert store.live() is None
    assert [event.action for event in store.history()] == ["refused"]


def test_a_candidate_that_forgot_the_replayed_site_is_refused(finished, monkeypatch):
    replay = {"replay": "phantoms", "replay_share": 0.5}
    folder = promoting(copied(finished, "forgetful"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    record = json.loads((folder / "run.json").read_text())
    for data in (config["data"], record["config"]["data"]):
        data.update(replay)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text(json.dumps(record))
    fake_scores(monkeypatch, 0.9, 0.5, former_iou=0.4)
    assert run(folder) is ExitCode.REFUSED
    assert "At the former site: Box IoU is 0.400 against 0.500" in read_progress(folder).message
    card = (ReasonerStore(folder / "store").candidate("tuned").folder / "README.md").read_text()
    assert "Held-out samples of the former site" in card


def test_supervised_lora_resumes_alike_and_leaves_the_vision_tower_as_it_was(site, monkeypatch):
    from medreasoner_training.finetune import stage

    hashes = []

    def recorded(model):
        names = [name for name, weight in model.named_parameters() if not weight.requires_grad]
        assert any(".visual." in name for name in names)
        hashes.append(original(model))
        return hashes[-1]

    original = stage.frozen_sha256
    monkeypatch.setattr(stage, "frozen_sha256", recorded)
    text = CONFIG.replace("method: grpo", "method: sft").replace("tuning: full", "tuning: lora")
    text = text.replace("{batch: 2", "{steps: 2, batch: 2").replace(
        "eval_steps: 2", "eval_steps: 1"
    )
    folder, stopped = make_run(site, "sft", text), make_run(site, "sft-stopped", text)
    fake_scores(monkeypatch, 0.5, 0.5)
    assert run(folder) is ExitCode.OK
    with monkeypatch.context() as patch:
        patch.setattr("medreasoner_training.finetune.callbacks.stop_requested", lambda _: True)
        assert run(stopped) is ExitCode.STOPPED
    assert run(stopped) is ExitCode.OK
    assert len(hashes) == 6  # before and after each of three trainings
    assert len(set(hashes)) == 1
    candidate = ReasonerStore(folder / "store").candidate("tuned")
    assert candidate.kind == "adapter"
    assert candidate.provenance.base_weights_sha256 == sha256(EMBEDDED / "model.safetensors")
    adapter = json.loads((candidate.folder / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "embedded"
    resumed = ReasonerStore(stopped / "store").candidate("tuned")
    name = "adapter_model.safetensors"
    assert resumed.files_sha256[name] == candidate.files_sha256[name]


def test_a_run_whose_rollouts_are_all_cut_fails_and_is_no_candidate(site):
    text = CONFIG.replace("max_completion_tokens: 64", "max_completion_tokens: 20")
    folder = make_run(site, "cut", text.replace("promote: false", "promote: true"))
    assert run(folder) is ExitCode.FAILED
    message = read_progress(folder).message
    assert "changed no weight" in message
    assert "100% rollouts that were cut at their longest length" in message
    assert not (folder / "grpo" / "model").exists()
    store = ReasonerStore(folder / "store")
    assert store.names() == ()
    assert store.attempt_number() == 2  # its curve was looked at


def test_changed_frozen_weights_fail_the_run(site, monkeypatch):
    from medreasoner_training.finetune import stage

    hashes = iter("ab")
    monkeypatch.setattr(stage, "frozen_sha256", lambda _: next(hashes))
    text = CONFIG.replace("method: grpo", "method: sft").replace("{batch", "{steps: 1, batch")
    folder = make_run(site, "touched", text)
    assert run(folder) is ExitCode.FAILED
    assert "frozen weights had the SHA-256 a before" in read_progress(folder).message
    assert not (folder / "sft" / "model").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("min_patients: 2", "min_patients: 3"), "targets of 2 patients; the gate decides on 3"),
        (("prompts_per_step: 2", "prompts_per_step: 4"), "has 3 training samples; a step takes 4"),
        (("folder: ../set", "folder: nowhere"), "holds no manifest.json"),
        (("steps: 3", "stepz: 3"), "grpo.stepz is no key"),
    ],
)
def test_a_run_that_cannot_start_says_why(site, change, says):
    name = hashlib.sha256(says.encode()).hexdigest()[:8]
    folder = make_run(site, name, CONFIG.replace(*change))
    assert run(folder) is ExitCode.FAILED
    progress = read_progress(folder)
    assert progress.state is State.FAILED
    assert says in progress.message
    assert not (folder / "grpo" / "model").exists()


def test_a_full_disk_fails_the_run_with_a_sentence(site, monkeypatch):
    import errno

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    text = CONFIG.replace("method: grpo", "method: sft").replace("{batch", "{steps: 1, batch")
    folder = make_run(site, "full", text)
    monkeypatch.setattr("transformers.Trainer._save_optimizer_and_scheduler", full)
    assert run(folder) is ExitCode.FAILED
    assert "ran full while writing" in read_progress(folder).message
    assert newest_complete(folder / "sft") is None


def test_an_unexpected_fault_is_told_and_raised(site, monkeypatch):
    folder = make_run(site, "bug")
    monkeypatch.setattr(
        "medreasoner_training.finetune.run.prepare", lambda _: (_ for _ in ()).throw(KeyError("x"))
    )
    with pytest.raises(KeyError):
        run(folder)
    assert read_progress(folder).state is State.FAILED
    assert "KeyError" in read_progress(folder).message


def test_the_command_ends_with_the_run_s_code(site):
    folder = make_run(site, "command", CONFIG.replace("folder: ../set", "folder: nowhere"))
    command = [sys.executable, "-m", "medreasoner_training.finetune", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.FAILED == 1
    assert "holds no manifest.json" in done.stdout
    assert dataclasses.asdict(read_progress(folder))["candidate"] is None
