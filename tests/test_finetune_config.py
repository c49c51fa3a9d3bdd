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
        ({"grpo": {"loss_type": "ppo"}}, r"^grpo\.loss_type: .*, expected one of \[grpo, dr"),
        (
            {"grpo": {"sampling_level": "sequence"}},
            r"loss_type is .*; expected grpo, sapo or luspo",
        ),
        ({"grpo": {"loss_type": "luspo"}}, r"sampling_level is .*; expected sequence with luspo"),
        ({"grpo": {"loss_type": "cispo"}}, r"epsilon_high is None; expected the highest weight"),
        ({"grpo": {"delta": 1.1}}, r"grpo\.delta is 1\.1; expected more than 1 \+ epsilon_high"),
        ({"grpo": {"weight_decay": -1}}, r"grpo\.weight_decay is -1\.0; expected 0 or more"),
        ({"grpo": {"steps_per_rollout": 0}}, r"grpo\.steps_per_rollout is 0; expected 1 or more"),
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


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {"loss_type": "grpo", "sampling_level": "sequence"},
            {"loss_type": "grpo", "importance_sampling_level": "sequence"},
        ),
        (
            {"loss_type": "cispo", "epsilon_high": 5.0},
            {"loss_type": "cispo", "epsilon_high": 5.0},
        ),
        ({"delta": 3}, {"delta": 3.0}),
        ({"mask_truncated": True}, {"mask_truncated_completions": True}),
        ({"weight_decay": 0.01}, {"weight_decay": 0.01}),
        ({"correct_rollouts": False}, {"vllm_importance_sampling_correction": False}),
    ],
)
def test_losses_and_clips_are_handed_on(ours, theirs):
    handed_on = their_arguments(config_from_dict({"grpo": ours}).grpo)
    assert theirs.items() <= handed_on.items()


@pytest.mark.parametrize(("shared_out", "generated"), [(1, 32), (2, 64)])
def test_a_generation_is_shared_out_among_steps(tmp_path, shared_out, generated):
    pytest.importorskip("trl", reason="the extra 'train' is not installed")
    from medreasoner_training.finetune.arguments import grpo_arguments

    grpo = {"generations": 4, "micro_batch": 8, "steps_per_rollout": shared_out}
    config = config_from_dict({"grpo": grpo, "run": {"device": "cpu"}})
    arguments = grpo_arguments(config, tmp_path, steps=5, longest_rollout=16)
    assert arguments.gradient_accumulation_steps * arguments.per_device_train_batch_size == 32
    assert arguments.generation_batch_size == generated


def test_the_published_run_is_as_published():
    config = read_config(shipped_configs()["paper_as_released"])
    grpo = config.grpo
    assert (grpo.prompts_per_rollout, grpo.generations, grpo.epochs) == (128, 16, 5.0)
    assert (grpo.prompts_per_step, grpo.steps_per_rollout, grpo.iterations) == (64, 2, 1)
    assert (grpo.learning_rate, grpo.weight_decay, grpo.beta) == (1e-6, 0.01, 0.01)
    assert (grpo.epsilon, grpo.epsilon_high, grpo.delta) == (0.2, None, 3.0)
    assert grpo.loss_type is LossType.dapo
    assert config.reward_config.as_released
    assert grpo.steps_for(1280) == 100  # 5 passes of 20 updates


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
