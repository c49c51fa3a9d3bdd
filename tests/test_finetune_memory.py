# SPDX-License-Identifier: Apache-2.0
"""Memory reckoned without weights agrees with what is published, measured, and added up by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

pytest.importorskip("trl", reason="the extra 'train' is not installed")
pytest.importorskip("peft", reason="the extra 'train' is not installed")

from peft import get_peft_model
from transformers import AutoModelForImageTextToText

import medreasoner_infer
from medreasoner_infer.models.store import ReasonerStore
from medreasoner_training.finetune.__main__ import main
from medreasoner_training.finetune.arguments import lora_config
from medreasoner_training.finetune.config import config_from_dict, read_config, shipped_configs
from medreasoner_training.finetune.dry_run import Learnt, Weight, dry_run
from medreasoner_training.finetune.dry_run_table import as_markdown
from medreasoner_training.finetune.errors import UnknownArchitectureError
from medreasoner_training.finetune.memory.architecture import architecture_of, published_models
from medreasoner_training.finetune.memory.estimate import (
    Load,
    Phase,
    items_of,
    items_of_transformers,
    kept_of_a_layer,
    key_value_bytes,
)
from medreasoner_training.finetune.memory.reckoning import Lengths, reckon
from medreasoner_training.finetune.replay import phantom_sample
from medreasoner_training.samples import TRAIN, VALIDATION, LeftOut, writing_dataset

EMBEDDED = Path(medreasoner_infer.__file__).parent / "embedded" / "reasoner"
SMALLER, LARGER = "Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"
LENGTHS = Lengths(prompt=1300, completion=1024, side_px=840, counted=False)
LORA = config_from_dict({"lora": {"rank": 16}})


@pytest.fixture(scope="module")
def larger():
    return architecture_of(None, LARGER, lora_config(LORA))


@pytest.fixture(scope="module")
def nano():
    return architecture_of(EMBEDDED, "", lora_config(LORA))


@pytest.fixture(scope="module")
def adapted():
    model = AutoModelForImageTextToText.from_pretrained(EMBEDDED)
    return get_peft_model(model, lora_config(LORA)).train()


# The numbers of parameters that Hugging Face shows on the pages of the models; that of the image
# encoder is what its own code prints for the larger one.
@pytest.mark.parametrize(("name", "weights"), [(SMALLER, 3_754_622_976), (LARGER, 8_292_166_656)])
def test_a_model_built_without_weights_has_the_published_number_of_them(name, weights):
    assert architecture_of(None, name, None).weights == weights
    assert published_models()["models"][name]["weights"] == weights


def test_parts_of_the_larger_model(larger):
    assert larger.vision_weights == 676_550_144
    assert larger.image_tokens(840) == 900
    assert larger.patches(840) == 3600
    assert not larger.learns_vision


def test_keys_and_values_of_a_token(larger):
    assert key_value_bytes(larger) == 56 * 1024
    assert key_value_bytes(architecture_of(None, SMALLER, None)) == 36 * 1024


def test_a_model_trained_from_a_published_one_has_its_sizes(larger):
    lingshu = architecture_of(None, "lingshu-medical-mllm/Lingshu-7B", lora_config(LORA))
    assert lingshu.weights == larger.weights


def test_an_unknown_model_is_refused_and_the_known_ones_are_named():
    with pytest.raises(UnknownArchitectureError, match=r"'a/b' is not on this machine.*Qwen2\.5"):
        architecture_of(None, "a/b", None)


def test_a_model_of_another_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UnknownArchitectureError, match="no model of the Qwen-VL family"):
        architecture_of(tmp_path, "", None)


def test_the_embedded_model_s_weights_are_those_that_are_loaded(nano, adapted):
    learning = [weight for weight in adapted.parameters() if weight.requires_grad]
    frozen = [weight for weight in adapted.parameters() if not weight.requires_grad]
    assert nano.learning == sum(weight.numel() for weight in learning)
    sizes = {item.name: item.bytes for item in items_of(nano, load_of(nano))}
    assert sizes["frozen weights"] == sum(weight.nbytes for weight in frozen)
    assert sizes["learning weights"] == sum(weight.nbytes for weight in learning)
    optimiser = torch.optim.AdamW(learning)
    for weight in learning:
        weight.grad = torch.zeros_like(weight)
    optimiser.step()
    moments = [
        state[name] for state in optimiser.state.values() for name in ("exp_avg", "exp_avg_sq")
    ]
    assert sizes["AdamW"] == sum(moment.nbytes for moment in moments)
    assert sizes["gradients"] == sum(weight.grad.nbytes for weight in learning)


def load_of(arch, **changes) -> Load:
    values = {
        "prompt": 100,
        "completion": 28,
        "side_px": 128,
        "micro_batch": 2,
        "rollouts": 4,
        "generations": 2,
        "lora_rank": 16,
        "weight_bytes": 4,
        "arithmetic_bytes": 4,
        "checkpointing": False,
    }
    return Load(**(values | changes))


def test_activations_are_those_that_torch_keeps(nano, adapted):
    language = adapted.base_model.model.model.language_model
    embedded = torch.randn(2, 128, nano.hidden, requires_grad=True)
    weights = {weight.untyped_storage().data_ptr() for weight in adapted.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        language(inputs_embeds=embedded, use_cache=False)
    measured = sum(storage.nbytes() for storage in kept.values())
    reckoned = 2 * 128 * nano.layers * kept_of_a_layer(nano, load_of(nano))
    assert measured == pytest.approx(reckoned, rel=0.1)


def test_a_case_added_up_by_hand(nano):
    items = items_of(nano, load_of(nano, checkpointing=True))
    items += items_of_transformers(nano, load_of(nano))
    sizes = {item.name: item.bytes for item in items}
    # 2 x 128 tokens, 8 layers of 128 values in float32
    assert sizes["activations"] == 2 * 128 * 8 * 128 * 4 == 1_048_576
    # 7 x 128 + 2 x 128 + 4 x 352 + 7 x 16 values, and 3 x 128 + 2 x 352 that flow back
    assert sizes["one layer again"] == 2 * 128 * 4 * (2672 + 1088) == 3_850_240
    # keys and values of 8 layers, 4 rollouts of 128 tokens
    assert sizes["KV cache"] == 4 * 128 * 2 * 8 * 128 * 4 == 4_194_304
    # 2 x 28 tokens x 6,018 of the vocabulary, and the gradient of what the head reads
    assert sizes["logits"] == 56 * 6018 * 4 + 56 * 128 * 4 == 1_376_704


def test_full_tuning_of_the_larger_model_takes_sixteen_bytes_a_weight():
    arch = architecture_of(None, LARGER, None)
    assert arch.learns_vision
    config = config_from_dict({"tuning": "full"})
    found = reckon(config, arch, LENGTHS, card_bytes=80_000_000_000)
    held = ("learning weights", "gradients", "AdamW")
    assert sum(item.bytes for item in found.items if item.name in held) == 16 * 8_292_166_656
    assert found.fits is False
    assert found.verdict.startswith("Does not fit: ")


def test_a_reference_model_is_a_second_copy_of_full_tuning_alone(larger):
    everything = architecture_of(None, LARGER, None)

    def names(arch, **values):
        config = config_from_dict({"grpo": {"beta": 0.01}, **values})
        return {item.name for item in reckon(config, arch, LENGTHS, card_bytes=None).items}

    assert "reference model" in names(everything, tuning="full")
    assert "reference model" not in names(larger)


def colocated(arch, **vllm):
    config = config_from_dict({"vllm": {"mode": "colocate", **vllm}})
    return reckon(config, arch, LENGTHS, card_bytes=48_000_000_000)


def test_the_model_s_own_context_is_refused_where_its_cache_does_not_fit(larger):
    found = colocated(larger, gpu_memory_share=0.45, max_model_length=128_000)
    assert found.fits is False
    assert "128,000 tokens takes 7.3 GB" in found.verdict  # 6.8 GiB
    assert "Raise vllm.gpu_memory_share" in found.verdict
    assert colocated(larger, gpu_memory_share=0.45).refusal is None


def test_a_share_that_is_not_free_is_refused(larger):
    assert "is not free beside" in colocated(larger, gpu_memory_share=0.7).verdict


def test_a_sleeping_vllm_leaves_its_memory_to_the_learning_model(larger):
    awake, sleeping = colocated(larger), colocated(larger, sleep=True)
    assert awake.vllm is not None
    share = sum(item.bytes for item in awake.vllm.items())
    learning = Phase.LEARNING
    assert awake.total(learning) - sleeping.total(learning) == share
    assert awake.total(Phase.ANSWERING) == sleeping.total(Phase.ANSWERING)


@pytest.mark.parametrize("name", [name for name in shipped_configs() if name.startswith("gpu_")])
def test_shipped_settings_fit_the_card_that_they_are_for(name, tmp_path):
    config = read_config(shipped_configs()[name])
    found = dry_run(config, ReasonerStore(tmp_path), lambda _: Learnt())
    assert found.reckoning.card_bytes == int(name.removeprefix("gpu_").removesuffix("gb")) * 10**9
    assert found.passed
    assert found.reckoning.verdict.startswith("Fits: ")


@pytest.mark.parametrize("name", [name for name in shipped_configs() if name.startswith("gpu_")])
def test_the_document_holds_the_table_of_shipped_settings(name, tmp_path):
    document = Path(__file__).parents[1] / "docs" / "fine_tuning.md"
    config = read_config(shipped_configs()[name])
    found = dry_run(config, ReasonerStore(tmp_path), lambda _: Learnt())
    assert as_markdown(found.reckoning) in document.read_text()


def run_folder(tmp_path: Path, **changes) -> Path:
    with writing_dataset(tmp_path / "dataset", (TRAIN, VALIDATION), {}, LeftOut()) as writer:
        found = (phantom_sample(index, 128) for index in range(100))
        present = (sample for sample in found if sample.present)
        for index in range(5):
            writer.add(next(present), TRAIN if index < 3 else VALIDATION)
    values = {
        "model": {"name": "embedded"},
        "grpo": {"prompts_per_step": 2, "generations": 2, "max_completion_tokens": 64},
        "run": {"device": "cpu", "gpu_gb": 4},
        "gate": {"min_patients": 2},
        **changes,
    }
    (tmp_path / "config.yaml").write_text(config_from_dict(values).to_yaml())
    return tmp_path


def command(*arguments):
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_a_dry_run_of_a_folder_writes_its_json_and_nothing_else(tmp_path):
    folder = run_folder(tmp_path / "run")
    before = {path for path in folder.rglob("*") if path.is_file()}
    found = command(folder, "--dry-run", "--out", tmp_path / "found.json")
    assert found.exit_code == 0, found.output
    assert {path for path in folder.rglob("*") if path.is_file()} == before
    told = json.loads((tmp_path / "found.json").read_text())
    assert told["passed"]
    assert told["prompt_is_counted"]
    (tmp_path / "found.json").write_text("mine")
    refused = command(folder, "--dry-run", "--out", tmp_path / "found.json")
    assert (refused.exit_code, (tmp_path / "found.json").read_text()) == (1, "mine")
    assert "--overwrite" in refused.output
    assert told["completion_tokens"] == 64
    data = next(each for each in told["findings"] if each["what"] == "data")
    assert data["sentence"] == "3 rows to learn from, 2 that validate."


@pytest.mark.parametrize(
    ("changes", "what", "told"),
    [
        ({"grpo": {"prompts_per_step": 4, "max_completion_tokens": 64}}, "data", "takes 4 diff"),
        ({"gate": {"min_patients": 20}}, "data", "the gate decides on 20"),
        ({"grpo": {"prompts_per_step": 2, "max_completion_tokens": 4000}}, "length", "2,048"),
        (
            {"vllm": {"mode": "colocate", "max_model_length": 70}},
            "length",
            "vllm.max_model_length is 70",
        ),
    ],
)
def test_what_ends_a_run_ends_a_dry_run_with_the_reason(tmp_path, changes, what, told):
    folder = run_folder(tmp_path / "run", **changes)
    out = tmp_path / "found.json"
    assert command(folder, "--dry-run", "--out", out).exit_code == 1
    findings = json.loads(out.read_text())["findings"]
    faults = [each for each in findings if each["weight"] == Weight.FAULT.value]
    assert [each["what"] for each in faults] == [what]
    assert told in faults[0]["sentence"]


def test_settings_that_mean_nothing_are_one_sentence(tmp_path):
    (tmp_path / "config.yaml").write_text("grpo: {stepz: 3}\n")
    found = command(tmp_path, "--dry-run")
    assert found.exit_code == 1
    assert "grpo.stepz is no key" in found.output


def test_a_folder_with_a_configuration_alone_is_enough(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text((EMBEDDED / "config.json").read_text())
    config = config_from_dict({"model": {"name": str(tmp_path / "model")}, "run": {"gpu_gb": 24}})
    found = dry_run(config, ReasonerStore(tmp_path), lambda _: Learnt())
    assert found.passed
    assert not found.lengths.counted
    assert any(each.what == "weights" for each in found.findings)
