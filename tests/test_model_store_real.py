# SPDX-License-Identifier: Apache-2.0
"""Two real reasoners, promoted one after the other while a pipeline keeps running."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import medreasoner_infer
from medreasoner_infer.imaging import Volume
from medreasoner_infer.models.store import Provenance, ReasonerStore
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.reasoners.weights import weights_sha256
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_training.embedded.phantom import torso_ct

pytestmark = pytest.mark.slow

BASE = Path(medreasoner_infer.__file__).parent / "embedded" / "reasoner"


def noisy_model(folder, seed):
    """The embedded reasoner with its weights disturbed, as a full model."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(BASE / "model.safetensors")
    rng = np.random.default_rng(seed)
    disturbed = {
        key: (value + rng.normal(0, 0.02, value.shape)).astype(value.dtype)
        for key, value in weights.items()
    }
    folder.mkdir()
    for path in BASE.glob("*.json*"):
        shutil.copyfile(path, folder / path.name)
    shutil.copyfile(BASE / "chat_template.jinja", folder / "chat_template.jinja")
    save_file(disturbed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def random_adapter(folder):
    peft = pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(0)
    base = AutoModelForImageTextToText.from_pretrained(BASE)
    config = peft.LoraConfig(
        r=4, target_modules=r".*language_model.*\.(q_proj|v_proj)", init_lora_weights=False
    )
    peft.get_peft_model(base, config).save_pretrained(folder)
    return folder


def test_running_pipeline_answers_with_whichever_model_is_live(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    store = ReasonerStore()
    trained = Provenance("embedded", "d" * 64, "1", 0, base_weights_sha256=weights_sha256(BASE))
    store.add(noisy_model(tmp_path / "full", seed=1), trained, name="full")
    store.add(random_adapter(tmp_path / "adapter"), trained, name="adapter")
    pipeline = Pipeline.from_registry("live", device="cpu")
    study = torso_ct(3, spacing_mm=(4.0, 4.0, 20.0), matrix=96)
    values = np.ascontiguousarray(study.hu.transpose(2, 1, 0).astype(np.int16))
    volume = Volume(values, study.ijk_to_lps, "CT", "key", Path("torso.nii.gz"))
    request = AskRequest("Which organ makes bile?", SliceSelection(index=14))

    def ask():
        result = pipeline.ask(volume, request)
        # Different weights may well say the same words, but not as surely.
        return result.reasoner, (result.completion, result.confidence)

    embedded, first = ask()
    assert embedded.weights_sha256 == weights_sha256(BASE)
    store.promote("full", by="test")
    full, second = ask()
    assert full.weights_sha256 == weights_sha256(tmp_path / "full")
    store.promote("adapter", by="test")
    adapter, third = ask()
    assert adapter.weights_sha256 == weights_sha256(BASE, tmp_path / "adapter")
    assert [embedded.name, full.name, adapter.name] == ["embedded", "full", "adapter"]
    assert {full.licence, adapter.licence} == {"Apache-2.0"}
    assert len({first, second, third}) == 3
    for expected in ((full, second), (embedded, first)):
        store.rollback(by="test")
        assert ask() == expected
