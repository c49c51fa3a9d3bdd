# SPDX-License-Identifier: Apache-2.0
"""The candidate between its parent's and the trained weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("peft", reason="the extra 'train' is not installed")

import medreasoner_infer
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.reasoners.factory import load_transformers_reasoner
from medreasoner_infer.reasoners.picture_kind import KINDS_FILE
from medreasoner_infer.reasoners.prompts import load_prompt_file
from medreasoner_training.finetune.blending import blend, mean_update
from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.settings import PromotionSettings
from medreasoner_training.finetune.tunable import TunableReasoner

EMBEDDED = Path(medreasoner_infer.__file__).parent / "embedded" / "reasoner"
WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"


@pytest.fixture
def start() -> TunableReasoner:
    spec = resolve_model("reasoner", "embedded")
    settings = load_prompt_file(EMBEDDED)
    return TunableReasoner("embedded", None, Path(spec.source), None, settings)


def disturbed(folder: Path, by: float = 1.0) -> Path:
    """A full model whose weights all differ from the embedded one's by so much."""
    shutil.copytree(EMBEDDED, folder, ignore=shutil.ignore_patterns(KINDS_FILE))
    moved = {name: weights + by for name, weights in load_file(EMBEDDED / WEIGHTS).items()}
    save_file(moved, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def write_adapter(folder: Path, rng: np.random.Generator, rank: int = 2) -> dict[str, np.ndarray]:
    """An adapter of two layers; returns the update of each."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    weights, updates = {}, {}
    for layer, (inputs, outputs) in {"q_proj": (6, 5), "v_proj": (6, 7)}.items():
        down, up = rng.normal(size=(rank, inputs)), rng.normal(size=(outputs, rank))
        weights[f"model.{layer}.lora_A.weight"] = torch.tensor(down, dtype=torch.float32)
        weights[f"model.{layer}.lora_B.weight"] = torch.tensor(up, dtype=torch.float32)
        updates[layer] = up @ down
    save_file(weights, folder / ADAPTER)
    return updates


def updates_of(folder: Path) -> dict[str, np.ndarray]:
    weights = load_file(folder / ADAPTER)
    return {
        layer: (
            weights[f"model.{layer}.lora_B.weight"] @ weights[f"model.{layer}.lora_A.weight"]
        ).numpy()
        for layer in ("q_proj", "v_proj")
    }


def test_a_full_model_lies_the_given_share_of_the_way(start, tmp_path):
    trained = replace(start, folder=disturbed(tmp_path / "trained"))
    blended = blend(start, [trained], 0.25, tmp_path / "blended")
    assert blended == replace(trained, folder=tmp_path / "blended")
    before, after = load_file(EMBEDDED / WEIGHTS), load_file(blended.folder / WEIGHTS)
    assert before.keys() == after.keys()
    for name, weights in after.items():
        torch.testing.assert_close(weights, before[name] + 0.25, rtol=0, atol=1e-6)
        assert weights.dtype == before[name].dtype


def test_a_blended_model_is_loaded_as_any_other(start, tmp_path):
    trained = replace(start, folder=disturbed(tmp_path / "trained"))
    folder = blend(start, [trained], 0.25, tmp_path / "blended").folder
    loaded = load_transformers_reasoner(folder, device="cpu", name="blended")
    assert loaded.identity.weights_sha256 is not None
    assert load_prompt_file(folder) == start.settings


def test_an_adapter_without_a_parent_has_its_update_scaled(start, tmp_path):
    updates = write_adapter(tmp_path / "trained", np.random.default_rng(0))
    trained = replace(start, adapter=tmp_path / "trained")
    blended = blend(start, [trained], 0.7, tmp_path / "blended")
    assert (blended.folder, blended.adapter) == (start.folder, tmp_path / "blended")
    assert (blended.adapter / "adapter_config.json").is_file()
    for layer, update in updates_of(blended.adapter).items():
        np.testing.assert_allclose(update, 0.7 * updates[layer], atol=1e-5)


def test_an_adapter_s_update_is_the_best_of_its_rank_to_the_mean_of_both(start, tmp_path):
    rng = np.random.default_rng(1)
    first, last = (write_adapter(tmp_path / name, rng) for name in ("parent", "trained"))
    parent = replace(start, adapter=tmp_path / "parent")
    trained = replace(start, adapter=tmp_path / "trained")
    blended = blend(parent, [trained], 0.6, tmp_path / "blended")
    for layer, update in updates_of(blended.adapter).items():
        left, values, right = np.linalg.svd(0.4 * first[layer] + 0.6 * last[layer])
        best = (left[:, :2] * values[:2]) @ right[:2]
        np.testing.assert_allclose(update, best, atol=1e-5)


def test_nothing_is_lost_where_both_updates_share_their_directions():
    rng = np.random.default_rng(2)
    down, up = (torch.tensor(rng.normal(size=s), dtype=torch.float32) for s in ((3, 9), (8, 3)))
    new_down, new_up = mean_update([(down, up), (down, 2 * up)], (0.5, 0.5))
    assert (new_down.shape, new_up.shape) == (down.shape, up.shape)
    torch.testing.assert_close(new_up @ new_down, 1.5 * up @ down, rtol=0, atol=1e-4)


def test_the_mean_of_three_trainings_is_as_far_from_the_parent_as_each(start, tmp_path):
    trained = [replace(start, folder=disturbed(tmp_path / name, by)) for name, by in
               (("one", 1.0), ("two", 2.0), ("three", 6.0))]  # fmt: skip
    for share, moved_by in ((1.0, 3.0), (0.5, 1.5)):
        mixed = blend(start, trained, share, tmp_path / f"mixed{share}")
        before, after = load_file(EMBEDDED / WEIGHTS), load_file(mixed.folder / WEIGHTS)
        assert before.keys() == after.keys()
        for name, weights in after.items():
            torch.testing.assert_close(weights, before[name] + moved_by, rtol=0, atol=1e-5)


@pytest.mark.parametrize("has_parent", [False, True])
def test_several_adapters_give_the_best_of_their_rank_to_their_mean(start, tmp_path, has_parent):
    rng = np.random.default_rng(5)
    updates = [write_adapter(tmp_path / name, rng) for name in ("a", "b", "c")]
    trained = [replace(start, adapter=tmp_path / name) for name in ("a", "b", "c")]
    parent, from_parent = start, dict.fromkeys(updates[0], 0.0)
    if has_parent:
        from_parent = write_adapter(tmp_path / "parent", rng)
        parent = replace(start, adapter=tmp_path / "parent")
    mixed = blend(parent, trained, 0.9, tmp_path / "mixed")
    for layer, update in updates_of(mixed.adapter).items():
        mean = 0.1 * from_parent[layer] + 0.3 * sum(each[layer] for each in updates)
        left, values, right = np.linalg.svd(mean)
        np.testing.assert_allclose(update, (left[:, :2] * values[:2]) @ right[:2], atol=1e-5)


def test_the_trained_model_itself_is_not_copied(start, tmp_path):
    trained = replace(start, folder=tmp_path / "trained")
    assert blend(start, [trained], 1.0, tmp_path / "blended") is trained
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_taken_up_again_keeps_what_was_blended(start, tmp_path):
    trained = replace(start, adapter=tmp_path / "trained")
    write_adapter(tmp_path / "trained", np.random.default_rng(3))
    unfinished = tmp_path / ".blended.unfinished"
    unfinished.mkdir()
    (unfinished / ADAPTER).write_bytes(b"torn")
    file = blend(start, [trained], 0.5, tmp_path / "blended").adapter / ADAPTER
    moment = file.stat().st_mtime_ns
    assert blend(start, [trained], 0.5, tmp_path / "blended").adapter == file.parent
    assert (file.stat().st_mtime_ns, unfinished.exists()) == (moment, False)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_that_means_nothing_is_refused(share):
    with pytest.raises(FineTuneConfigError, match=r"promotion\.blend is .*above 0 to 1"):
        PromotionSettings(blend=share)
