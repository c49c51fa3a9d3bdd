# SPDX-License-Identifier: Apache-2.0
"""A tiny model of each family is measured, taught, rewarded and merged, as a site would do it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

pytest.importorskip("datasets", reason="the extra 'train' is not installed")
pytest.importorskip("trl", reason="the extra 'train' is not installed")
pytest.importorskip("peft", reason="the extra 'train' is not installed")

from support import umrg
from support.evaluated import BoxFiller
from support.runs import make_run_folder
from support.tiny_families import TINY

from medreasoner_infer.imaging import Plane
from medreasoner_infer.models.store import ReasonerStore
from medreasoner_infer.reasoners import load_transformers_reasoner
from medreasoner_infer.types import ReasonerRequest
from medreasoner_training.evaluation import Run, RunSettings, open_rows
from medreasoner_training.evaluation.running import predict
from medreasoner_training.finetune import read_progress
from medreasoner_training.finetune.merge import merge_adapter
from medreasoner_training.finetune.run import ExitCode, run
from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    LeftOut,
    QuerySource,
    Question,
    Sample,
    writing_dataset,
)

pytestmark = pytest.mark.slow

SIZE = 64
CONFIG = """
method: METHOD
tuning: TUNING
model: {name: BASE}
data: {folder: ../set, augment: false}
sft: {steps: SFT, batch: 2, micro_batch: 2, learning_rate: 1.0e-2, warmup_steps: 0}
grpo:
  steps: 1
  prompts_per_step: 2
  generations: 2
  temperature: 0.5
  max_completion_tokens: 160
  learning_rate: 1.0e-3
  warmup_steps: 0
lora: {rank: 2, alpha: 4}
run: {device: cpu, save_steps: 100, eval_steps: 100, eval_samples: 2}
promotion: {store: store, name: tuned, promote: false, blend: 1.0}
gate: {min_patients: 2, resamples: 100}
"""


def sample(index: int) -> Sample:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[20:40, 10:30] = True
    # Of each patient another picture: copies of held-out ones are not learnt from.
    tissue = np.random.default_rng(index).integers(0, 120, (8, 8)).repeat(8, 0).repeat(8, 1)
    grey = np.where(mask, 180, tissue).astype(np.uint8)
    return Sample(
        image=np.repeat(grey[..., None], 3, axis=2),
        mask=mask,
        question=Question(f"Which organ stores bile, {index}?", QuerySource.READER, "Seen."),
        label_name="Gallbladder",
        bbox_xyxy_px=(10, 20, 30, 40),
        points_xy_px=((14, 28), (24, 32)),
        plane=Plane.AXIAL,
        slice_index=index,
        modality="CT",
        window="w",
        case_key=f"{index:016d}",
        patient_key=f"{index:016d}",
    )


@pytest.fixture(scope="module", params=TINY)
def site(request, tmp_path_factory) -> Path:
    """A folder with a model in ``base``, which is asked in few words, and a data set."""
    folder = tmp_path_factory.mktemp(request.param)
    save, side = TINY[request.param]
    assert side == SIZE
    save(folder / "base")
    prompt = {
        "system": "Ground.",
        "user_template": '{query} {coordinates} "bbox": [{corners}]',
        "asks_reasoning": False,
        "image_encoding": "rgb",
        "input_size": SIZE,
    }
    (folder / "base" / "prompt.json").write_text(json.dumps(prompt))
    with writing_dataset(folder / "set", (TRAIN, VALIDATION), {}, LeftOut()) as writer:
        for index in range(5):
            writer.add(sample(index), TRAIN if index < 3 else VALIDATION)
    return folder


def trained(site: Path, name: str, **settings: object) -> tuple[ExitCode, Path]:
    text = CONFIG.replace("BASE", str(site / "base"))
    for key, value in settings.items():
        text = text.replace(key.upper(), str(value))
    folder = make_run_folder(site, name, text)
    return run(folder), folder


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    with safe_open(folder / "model.safetensors", framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping


def test_a_data_set_is_measured(site, tmp_path) -> None:
    rows = [umrg.row(n, (10, 20, 50, 40), f"Where is it, {n}?", "liver") for n in range(3)]
    source = open_rows(str(umrg.write(tmp_path / "data" / "test.parquet", rows)))
    reasoner = load_transformers_reasoner(site / "base", device="cpu")
    found = predict(Run(source, reasoner, BoxFiller(), RunSettings(), tmp_path / "out"))
    assert len(found) == 3
    for each in found:
        assert each.completion.startswith("<answer>")
        if each.bbox is not None:  # pixels of the data set's own images
            assert min(each.bbox) >= 0
            assert max(each.bbox) <= umrg.SIZE


def test_supervised_steps_teach_the_family_s_own_numbers_and_the_adapter_merges(site) -> None:
    code, folder = trained(site, "sft-run", method="sft", tuning="lora", sft=2)
    assert code is ExitCode.OK, read_progress(folder).message
    candidate = ReasonerStore(folder / "store").candidate("tuned")
    assert candidate.kind == "adapter"
    merged = merge_adapter(candidate.folder, site / "merged", base=str(site / "base"))
    before, after = weights_of(site / "base"), weights_of(merged)
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all("language_model" in name or name.startswith("model.layers") for name in changed)
    image = np.asarray(sample(0).image)
    request = ReasonerRequest(image, "Which organ stores bile, 9?", "")
    served = load_transformers_reasoner(merged, device="cpu").answer(request)[0]
    adapted = load_transformers_reasoner(
        site / "base", device="cpu", adapter=candidate.folder
    ).answer(request)[0]
    assert served.completion == adapted.completion


def test_a_cold_start_ends_at_the_approved_box_and_its_rollouts_are_rewarded_for_it(site) -> None:
    """What was learnt in the family's numbers is read and rewarded in pixels.

    The step of GRPO ends with that reason where all rollouts earn the same.
    """
    code, folder = trained(site, "grpo-run", method="grpo", tuning="full", sft=60)
    message = read_progress(folder).message
    assert code is ExitCode.OK or "changed no weight" in message, message
    reasoner = load_transformers_reasoner(folder / "sft" / "model", device="cpu")
    (answer,) = reasoner.answer(ReasonerRequest(sample(0).image, sample(0).question.text, ""))
    assert answer.grounding.bbox_xyxy_px == pytest.approx((10, 20, 30, 40), abs=0.1)
    assert answer.grounding.points_xy_px[0] == pytest.approx((14, 28), abs=0.1)
    steps = folder / "grpo" / "checkpoint-1" / "trainer_state.json"
    logged = [line for line in json.loads(steps.read_text())["log_history"] if "reward" in line]
    assert logged[0]["rewards/bbox_iou/mean"] > 0.2  # one of four rollouts at least
