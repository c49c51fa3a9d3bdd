# SPDX-License-Identifier: Apache-2.0
"""Ways through a run that a site may configure: cold start, KL, mask reward, two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("datasets", reason="the extra 'train' is not installed")
pytest.importorskip("trl", reason="the extra 'train' is not installed")
pytest.importorskip("peft", reason="the extra 'train' is not installed")

from safetensors.numpy import load_file
from support.runs import make_run_folder

from medreasoner_infer.models.store import ReasonerStore
from medreasoner_training.finetune import State, read_progress
from medreasoner_training.finetune.arguments import require_rollout_device
from medreasoner_training.finetune.config import config_from_dict, shipped_configs
from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.preparation import prepare
from medreasoner_training.finetune.replay import phantom_sample
from medreasoner_training.finetune.run import ExitCode, run
from medreasoner_training.samples import TRAIN, VALIDATION, LeftOut, writing_dataset

ACCELERATE = Path(next(iter(shipped_configs().values()))).parent / "accelerate"
CONFIG = """
method: grpo
tuning: lora
model: {name: embedded}
data: {folder: ../set, augment: false}
sft: {steps: 2, batch: 2, micro_batch: 1, learning_rate: 1.0e-3, warmup_steps: 0}
grpo:
  steps: 2
  prompts_per_step: 2
  generations: 2
  max_completion_tokens: 64
  learning_rate: 1.0e-3
  warmup_steps: 0
  beta: 0.04
rewards: {mode: hard, mask_weight: 1.0}
run: {device: cpu, save_steps: 100, eval_steps: 0}
promotion: {store: store, name: tuned, promote: false, segmenter: embedded}
gate: {min_patients: 2, resamples: 100}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with a data set of three patients who train and two who validate."""
    folder = tmp_path_factory.mktemp("site")
    with writing_dataset(folder / "set", (TRAIN, VALIDATION), {}, LeftOut()) as writer:
        found = (phantom_sample(index, 128) for index in range(100))
        present = (sample for sample in found if sample.present)
        for index in range(5):
            writer.add(next(present), TRAIN if index < 3 else VALIDATION)
    return folder


def make_run(site: Path, name: str, config: str = CONFIG) -> Path:
    return make_run_folder(site, name, config)


def logged(folder: Path, stage: str, step: int) -> list[dict]:
    state = folder / stage / f"checkpoint-{step}" / "trainer_state.json"
    return json.loads(state.read_text())["log_history"]


def files_of(folder: Path) -> set[str]:
    """What a run leaves, without TensorBoard's files, whose names hold host and time."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if path.parts[0] != "tensorboard"}


@pytest.fixture(scope="module")
def finished(site) -> Path:
    folder = make_run(site, "one")
    assert run(folder) is ExitCode.OK
    return folder


@pytest.mark.slow
def test_a_cold_start_goes_on_with_rewards_on_the_same_adapter(finished):
    progress = read_progress(finished)
    assert (progress.state, progress.step, progress.total_steps) == (State.FINISHED, 4, 4)
    supervised = load_file(finished / "sft" / "model" / "adapter_model.safetensors")
    rewarded = load_file(finished / "grpo" / "model" / "adapter_model.safetensors")
    assert supervised.keys() == rewarded.keys()
    assert any((supervised[name] != rewarded[name]).any() for name in rewarded)
    assert "loss" in logged(finished, "sft", 2)[0]
    candidate = ReasonerStore(finished / "store").candidate("tuned")
    assert candidate.kind == "adapter"
    card = (candidate.folder / "README.md").read_text()
    assert "2 supervised steps, then GRPO" in card


@pytest.mark.slow
def test_the_kl_term_measures_from_the_start_and_the_mask_is_rewarded(finished):
    first, second = [line for line in logged(finished, "grpo", 2) if "reward" in line]
    # The reference is the cold start's adapter: nothing has moved before the first step.
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    assert second["kl"] > 1e-5
    for line in (first, second):
        assert 0.0 <= line["rewards/mask_dice/mean"] <= 1.0
        terms = sum(
            value for key, value in line.items() if key.endswith("/mean") and "rewards" in key
        )
        assert line["reward"] == pytest.approx(terms, abs=1e-3)


@pytest.mark.slow
def test_two_processes_learn_and_leave_what_one_does(site, finished, tmp_path):
    folder = make_run(site, "two")
    # As for GPUs: with MULTI_CPU accelerate starts one process, unless MPI starts the others.
    # Without GPUs, and with run.device cpu, the two talk by gloo.
    launch = tmp_path / "two.yaml"
    launch.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nmixed_precision: 'no'\n"
        "machine_rank: 0\nnum_machines: 1\nnum_processes: 2\nuse_cpu: false\n"
    )
    command = [
        sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file",
        str(launch), "--main_process_port", "0", "-m", "medreasoner_training.finetune", str(folder),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_progress(folder).state is State.FINISHED
    random_states = {
        f"{stage}/rng_state_{rank}.pth"
        for stage in ("sft/checkpoint-2", "grpo/checkpoint-2")
        for rank in range(2)
    }
    shared = {name.replace("rng_state.pth", "rng_state_0.pth") for name in files_of(finished)}
    assert files_of(folder) == shared | random_states
    # Both shares of the batch count: half of it would give another direction.
    one, two = (
        load_file(each / "sft" / "model" / "adapter_model.safetensors")
        for each in (finished, folder)
    )
    learnt = [
        np.concatenate([w[n].ravel() for n in sorted(w) if "lora_B" in n]) for w in (one, two)
    ]
    assert np.dot(*learnt) / np.prod([np.linalg.norm(each) for each in learnt]) > 0.99
    writers = list((folder / "tensorboard").rglob("events.*"))
    assert len(writers) == len(list((finished / "tensorboard").rglob("events.*"))) == 2


@pytest.mark.parametrize(
    ("name", "kind"), [("single", "NO"), ("zero3", "DEEPSPEED"), ("fsdp", "FSDP")]
)
def test_accelerate_reads_the_shipped_files(name, kind):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(ACCELERATE / f"{name}.yaml"))
    assert str(config.distributed_type).rpartition(".")[2] == kind
    assert config.mixed_precision == "bf16"
    assert config.num_machines == 1


@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_rollouts_by_vllm_are_refused_on_the_cpu_before_a_model_is_loaded(site, mode):
    url = "http://localhost:8000" if mode == "server" else None
    vllm = json.dumps({"mode": mode, "url": url})
    folder = make_run(site, f"vllm-{mode}", f"{CONFIG}vllm: {vllm}\n")
    with pytest.raises(FineTuneConfigError, match="CUDA GPUs only"):
        prepare(folder)


def test_rollouts_by_vllm_alone_need_a_gpu():
    refused = []
    for mode, url in (("off", None), ("colocate", None), ("server", "http://localhost:8000")):
        vllm = {"mode": mode, "url": url}
        try:
            require_rollout_device(config_from_dict({"run": {"device": "cpu"}, "vllm": vllm}))
        except FineTuneConfigError:
            refused.append(mode)
    assert refused == ["colocate", "server"]
