# SPDX-License-Identifier: Apache-2.0
"""The configuration of fine-tuning: what it takes and what it refuses."""

from __future__ import annotations

import dataclasses

import pytest

from medreasoner_training.finetune import FineTuneConfig, config_from_dict, read_config
from medreasoner_training.finetune.config import shipped_configs
from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.settings import (
    LANGUAGE_PROJECTIONS,
    GrpoSettings,
    LoraSettings,
    LossType,
    Method,
    RunSettings,
    ScaleRewards,
    SftSettings,
    VllmSettings,
    their_arguments,
)

UNUSUAL = """
method: sft
tuning: full
model: {name: lingshu-7b, revision: abc}
data: {folder: /somewhere, replay: phantoms, replay_share: 0.25}
augmentation: {gamma: [0.5, 1.5]}
sft: {steps: 7}
grpo: {steps: null, epochs: 2, loss_type: dr_grpo, epsilon_high: 0.28}
rewards: {mode: hard, terms: [bbox_iou, bbox_align], weights: {bbox_iou: 2}}
gate: {gain: 0.05}
"""


def test_a_file_is_read_written_and_read_alike(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(UNUSUAL)
    config = read_config(path)
    path.write_text(config.to_yaml())
    assert read_config(path) == config
    assert config.method is Method.sft
    assert config.grpo.loss_type is LossType.dr_grpo
    assert config.grpo.epochs == 2.0
    assert config.rewards.terms == ("bbox_iou", "bbox_align")
    assert config.augmentation.gamma == (0.5, 1.5)
    assert config.gate.gain == 0.05
    assert config.reward_config.weight_of("bbox_iou") == 2.0
    assert config.to_dict()["method"] == "sft"


def test_an_empty_file_means_the_defaults(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("# nothing\n")
    assert read_config(path) == FineTuneConfig()
    assert FineTuneConfig().lora.target_modules == LANGUAGE_PROJECTIONS


def test_a_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FineTuneConfig().method = Method.sft


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_files_are_valid(name):
    assert read_config(shipped_configs()[name]).grpo.generations >= 2


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"stepz": 3}, r"^stepz is no key; expected one of augmentation, data"),
        ({"grpo": {"stepz": 3}}, r"^grpo\.stepz is no key; expected one of beta.* mean steps\?"),
        ({"gate": {"marging": 3}}, r"^gate\.marging is no key; expected one of absence_margin"),
        ({"grpo": {"steps": "many"}}, r"^grpo\.steps: .*'many'"),
        ({"method": "ppo"}, r"^method: .*'ppo', expected one of \[sft, grpo\]"),
        ({"grpo": {"steps": 1, "epochs": 1}}, r"either grpo\.steps or grpo\.epochs"),
        ({"grpo": {"steps": None}}, r"either grpo\.steps or grpo\.epochs"),
        ({"grpo": {"generations": 1}}, r"grpo\.generations is 1; expected 2"),
        ({"grpo": {"micro_batch": 7}}, r"grpo\.micro_batch is 7; expected a divisor of the 64"),
        ({"grpo": {"learning_rate": float("nan")}}, r"grpo\.learning_rate is nan"),
        ({"method": "sft"}, r"sft\.steps is 0"),
        ({"lora": {"target_modules": "("}}, r"lora\.target_modules is no regular expression"),
        ({"data": {"replay_share": 0.5}}, r"data\.replay is None"),
        ({"data": {"replay_share": 1.0, "replay": "phantoms"}}, r"data\.replay_share is 1\.0"),
        ({"model": {"revision": "abc"}}, r"'live' has no revision"),
        ({"rewards": {"mode": "medium"}}, r"rewards: .*'medium'"),
        ({"rewards": {"weights": {"iou": 1.0}}}, r"rewards: .*'iou' has a weight"),
        ({"rewards": {"operating_iou": 0}}, r"rewards\.operating_iou is 0\.0; expected above 0"),
        ({"rewards": {"as_released": "maybe"}}, r"^rewards\.as_released: .*'maybe'"),
        (
            {"rewards": {"as_released": True, "terms": ["bbox_align"]}},
            r"rewards: .*'bbox_align'; expected some of \('format_think', 'format_seg'",
        ),
        ({"rewards": {"mask_weight": 1.0}}, r"promotion\.segmenter is null"),
        ({"gate": {"primary": "mask_dice"}}, r"promotion\.segmenter is null"),
        ({"gate": {"gain": 2.0}}, r"gate: gain is 2\.0"),
        ({"gate": {"margin": 0.02}}, r"^gate\.margin is no key any more: .* gain: -0\.02"),
        ({"augmentation": {"gamma": [1]}}, r"^augmentation\.gamma"),
        ({"run": {"seed": True}}, r"^run\.seed: .*True"),
        ({"grpo": {"beta": False}}, r"^grpo\.beta: .*False"),
        ({"grpo": {"steps": 2.5}}, r"^grpo\.steps: .*2\.5"),
        ({"grpo": 3}, r"^grpo: .*3"),
        ({1: 2}, r"^1: "),
        ({"gate": {"gain": "wide"}}, r"^gate\.gain: .*'wide'"),
        ({"vllm": {"mode": "server"}}, r"vllm\.url is None"),
        ({"run": {"device": "tpu"}}, r"run\.device is 'tpu'"),
        ({"run": {"keep_checkpoints": 1}}, r"run\.keep_checkpoints is 1"),
    ],
)
def test_what_means_nothing_is_refused_by_its_key(values, problem):
    with pytest.raises(FineTuneConfigError, match=problem):
        config_from_dict(values)


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "a: [", "a: 1\n\ta: 2"])
def test_a_file_that_holds_no_keys_is_refused(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(FineTuneConfigError):
        read_config(path)


def test_a_missing_file_names_the_shipped_ones(tmp_path):
    with pytest.raises(FineTuneConfigError, match="embedded"):
        read_config(tmp_path / "config.yaml")


def test_epochs_become_steps():
    by_epochs = {"steps": None, "epochs": 1.5, "prompts_per_step": 4, "iterations": 2}
    config = config_from_dict({"grpo": by_epochs})
    assert config.grpo.steps_for(10) == 8  # 15 questions in 4 batches, each learnt from twice
    assert FineTuneConfig().grpo.steps_for(10) == 200


@pytest.mark.parametrize(
    ("section", "module", "name"),
    [
        (SftSettings(), "trl", "SFTConfig"),
        (GrpoSettings(), "trl", "GRPOConfig"),
        (VllmSettings(), "trl", "GRPOConfig"),
        (RunSettings(), "trl", "GRPOConfig"),
        (LoraSettings(), "peft", "LoraConfig"),
    ],
)
def test_what_is_handed_on_is_a_setting_of_the_library(section, module, name):
    library = pytest.importorskip(module, reason="the extra 'train' is not installed")
    known = {each.name for each in dataclasses.fields(getattr(library, name))}
    assert their_arguments(section).keys() <= known


def test_settings_are_handed_on_under_the_library_s_names():
    grpo = GrpoSettings(generations=4, scale_rewards=ScaleRewards.none, warmup_steps=0)
    handed_on = their_arguments(grpo)
    assert (handed_on["num_generations"], handed_on["warmup_steps"]) == (4, 0)
    assert type(handed_on["scale_rewards"]) is str
    assert handed_on["scale_rewards"] == "none"
    assert "prompts_per_step" not in handed_on


def test_shipped_files_of_accelerate_are_read_by_accelerate():
    config_args = pytest.importorskip("accelerate.commands.config.config_args")
    folder = shipped_configs()["embedded"].parent / "accelerate"
    kinds = {
        path.stem: str(config_args.load_config_from_file(str(path)).distributed_type)
        for path in folder.glob("*.yaml")
    }
    assert {name: kind.rpartition(".")[2] for name, kind in kinds.items()} == {
        "single": "NO",
        "zero3": "DEEPSPEED",
        "fsdp": "FSDP",
    }


def test_the_paper_s_settings_are_those_of_the_paper():
    config = read_config(shipped_configs()["paper"])
    grpo = config.grpo
    assert (grpo.prompts_per_step, grpo.generations, grpo.epochs) == (128, 16, 5.0)
    assert (grpo.learning_rate, grpo.beta, grpo.max_completion_tokens) == (1e-6, 0.01, 2048)
    assert config.reward_config.selected_terms == (
        "format_think", "format_seg", "bbox_iou", "points_dice",
    )  # fmt: skip
