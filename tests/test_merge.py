# SPDX-License-Identifier: Apache-2.0
"""A merged folder answers as base and adapter together do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import medreasoner_infer
from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_training.finetune.merge import MergeError, merge_adapter

peft = pytest.importorskip("peft")
torch = pytest.importorskip("torch")

BASE = Path(medreasoner_infer.__file__).parent / "embedded" / "reasoner"


def load(folder):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()


def random_adapter(folder, seed=0, **changes):
    """Rank 4 on the attention of the language model; not zero, as a fresh one would be."""
    torch.manual_seed(seed)
    settings = {"r": 4, "target_modules": r".*language_model.*\.(q_proj|v_proj)"} | changes
    config = peft.LoraConfig(**settings, init_lora_weights=False)
    peft.get_peft_model(load(BASE), config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return random_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def merged(adapter, tmp_path_factory):
    return merge_adapter(adapter, tmp_path_factory.mktemp("out") / "merged")


def inputs():
    from transformers import AutoProcessor

    from medreasoner_infer.reasoners.image_encoding import prepare_image

    grey = np.random.default_rng(0).integers(0, 256, (128, 128), np.uint8)
    image = prepare_image(grey, "grey_xy_ramps")
    processor = AutoProcessor.from_pretrained(BASE)
    text = "<|vision_start|><|image_pad|><|vision_end|>Which organ makes bile?"
    return processor(text=[text], images=[image], return_tensors="pt")


@torch.no_grad()
def logits(model):
    return model(**inputs()).logits.numpy()


@pytest.mark.slow
def test_logits_of_the_merged_model_are_those_of_base_plus_adapter(merged, adapter):
    beside = logits(peft.PeftModel.from_pretrained(load(BASE), adapter).eval())
    np.testing.assert_allclose(logits(load(merged)), beside, atol=2e-4, rtol=0)
    assert np.abs(logits(load(BASE)) - beside).max() > 0.1  # the adapter does something


@pytest.mark.slow
def test_merged_weights_are_the_base_s_plus_scale_times_b_a(merged, adapter):
    from safetensors.numpy import load_file

    base, got = load_file(BASE / "model.safetensors"), load_file(merged / "model.safetensors")
    delta = load_file(adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    assert {k: v.shape for k, v in got.items()} == {k: v.shape for k, v in base.items()}
    changed = {key for key in base if not np.array_equal(base[key], got[key])}
    layers = json.loads((BASE / "config.json").read_text())["text_config"]["num_hidden_layers"]
    assert len(changed) == len(delta) // 2 == 2 * layers  # q_proj and v_proj of each
    for key in changed:
        part = key.split("layers.")[1].removesuffix(".weight")
        (a,) = (v for k, v in delta.items() if k.endswith(f"layers.{part}.lora_A.weight"))
        (b,) = (v for k, v in delta.items() if k.endswith(f"layers.{part}.lora_B.weight"))
        np.testing.assert_allclose(got[key], base[key] + scale * b @ a, atol=1e-5)


@pytest.mark.slow
def test_processor_tokenizer_and_prompt_are_the_base_s_and_its_card_is_not(merged):
    for name in ("tokenizer.json", "processor_config.json", "chat_template.jinja"):
        assert (merged / name).read_bytes() == (BASE / name).read_bytes()
    asked, of_base = (json.loads((at / "prompt.json").read_text()) for at in (merged, BASE))
    assert asked == of_base | {"refuses_others": False}  # the adapter may know more
    assert not (merged / "README.md").exists()
    assert not (merged / "evaluation.json").exists()


@pytest.mark.slow
def test_origin_holds_the_hashes_of_both(merged, adapter):
    origin = json.loads((merged / "merge.json").read_text())
    for key, path in (
        ("base_weights_sha256", BASE / "model.safetensors"),
        ("adapter_weights_sha256", adapter / "adapter_model.safetensors"),
    ):
        assert origin[key] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert Path(origin["base"]) == BASE


@pytest.mark.slow
def test_merged_folder_is_a_candidate_of_the_store(merged, tmp_path):
    from medreasoner_infer.models.store import Provenance, ReasonerStore

    provenance = Provenance("embedded", "d" * 64, "1", 0)
    added = ReasonerStore(tmp_path).add(merged, provenance, name="merged")
    assert added.kind == "model"
    assert added.notice.endswith("Not for clinical use.")


@pytest.mark.slow
def test_adapter_of_another_model_is_refused_and_leaves_nothing(adapter, tmp_path):
    from safetensors.numpy import load_file, save_file

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    weights = load_file(adapter / "adapter_model.safetensors")
    renamed = {key.replace("layers.3", "layers.33"): value for key, value in weights.items()}
    save_file(renamed, foreign / "adapter_model.safetensors")
    with pytest.raises(MergeError, match="do not belong to this base"):
        merge_adapter(foreign, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


def bare_adapter(folder, config):
    from safetensors.numpy import save_file

    save_file({"lora_A": np.ones(4, np.float32)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(config)
    return folder


def test_existing_folder_is_not_overwritten(tmp_path):
    with pytest.raises(MergeError, match="exists already"):
        merge_adapter(tmp_path, tmp_path)


def test_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(ModelUnavailableError, match=r"no adapter_model\.safetensors"):
        merge_adapter(tmp_path, tmp_path / "out")


def test_adapter_that_names_no_base_asks_for_one(tmp_path):
    with pytest.raises(MergeError, match="names no base"):
        merge_adapter(bare_adapter(tmp_path, "{}"), tmp_path / "out")


def test_unreadable_configuration_is_refused(tmp_path):
    with pytest.raises(ModelUnavailableError, match="cannot be read"):
        merge_adapter(bare_adapter(tmp_path, "{"), tmp_path / "out")
