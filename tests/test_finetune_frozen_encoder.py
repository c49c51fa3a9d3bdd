# SPDX-License-Identifier: Apache-2.0
"""A frozen image encoder has no gradient, and a step's micro-batches see each image once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("trl", minversion="1.16", reason="sharing prompts needs the extra 'train'")
pytest.importorskip("peft", reason="the extra 'train' is not installed")

from transformers import AutoModelForImageTextToText
from trl import GRPOTrainer

import medreasoner_infer
from medreasoner_infer.reasoners.families import family_in
from medreasoner_infer.reasoners.prompts import load_prompt_file
from medreasoner_training.finetune.config import config_from_dict
from medreasoner_training.finetune.frozen_encoder import joined, spare_frozen_encoders
from medreasoner_training.finetune.grouped_batches import GroupedGRPOTrainer
from medreasoner_training.finetune.grpo import trainer_parts
from medreasoner_training.finetune.replay import phantom_rows
from medreasoner_training.finetune.rows import RowMaker
from medreasoner_training.finetune.settings import Tuning
from medreasoner_training.finetune.shared_images import share_images
from medreasoner_training.finetune.stage import Stage
from medreasoner_training.finetune.tunable import TunableReasoner, load_trainable

EMBEDDED = Path(medreasoner_infer.__file__).parent / "embedded" / "reasoner"
PROMPTS, GENERATIONS, MICRO = 3, 4, 2
SHAPE = {
    "tuning": "lora",
    "data": {"augment": False},
    "grpo": {
        "steps": 1,
        "prompts_per_step": PROMPTS,
        "generations": GENERATIONS,
        "micro_batch": MICRO,
        "max_completion_tokens": 12,
        "temperature": 2.0,
    },
    "run": {"device": "cpu", "gradient_checkpointing": True, "save_steps": 100, "eval_steps": 0},
}


def length_reward(completions, **_) -> list[float]:
    """Any weights write completions of several lengths at this temperature."""
    return [float(len(each[0]["content"])) for each in completions]


def trainer_of(kind: type[GRPOTrainer], folder: Path) -> GRPOTrainer:
    config = config_from_dict(SHAPE)
    prompt = load_prompt_file(EMBEDDED)
    start = TunableReasoner("embedded", None, EMBEDDED, None, prompt)
    torch.manual_seed(0)
    loaded = load_trainable(start, Tuning.lora, config.run)
    raw = phantom_rows(PROMPTS, prompt.input_size)
    maker = RowMaker(prompt, loaded.frame)
    parts = trainer_parts(config, Stage("grpo", folder, 1), loaded, raw, maker)
    parts["reward_funcs"] = [length_reward]
    trainer = kind(**parts)
    trainer.create_optimizer_and_scheduler(1)
    trainer.model.gradient_checkpointing_enable()  # as the trainer does when it begins
    return trainer


def step_gradients(trainer: GRPOTrainer) -> dict[str, torch.Tensor]:
    """Of one optimiser step, summed over its micro-batches, and the loss under its own name."""
    torch.manual_seed(0)
    model = trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    losses = [
        trainer.training_step(model, batch, num_items_in_batch=None)
        for _ in range(trainer.args.gradient_accumulation_steps)
    ]
    learning = {n: w.grad for n, w in model.named_parameters() if w.requires_grad}
    found = {name: grad for name, grad in learning.items() if grad is not None}
    return {**found, "loss": torch.stack(losses).sum()}


def count_images(model: torch.nn.Module) -> list[int]:
    """Patches of each pass through the image encoder from now on."""
    seen: list[int] = []
    visual = next(m for name, m in model.named_modules() if name.endswith(".visual"))
    visual.patch_embed.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    return seen


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[dict[str, torch.Tensor], list[int]]:
    trainer = trainer_of(GRPOTrainer, tmp_path_factory.mktemp("plain"))
    seen = count_images(trainer.model)
    return step_gradients(trainer), seen


def sparing_trainer(folder: Path) -> GRPOTrainer:
    trainer = trainer_of(GroupedGRPOTrainer, folder)
    share_images(trainer.model, family_in(EMBEDDED))
    spare_frozen_encoders(trainer.model, PROMPTS)
    trainer.shares_prompts = True
    return trainer


def test_a_steps_gradients_are_those_of_plain_trl(plain, tmp_path):
    expected, _ = plain
    found = step_gradients(sparing_trainer(tmp_path))
    assert found.keys() == expected.keys()
    assert any(gradient.norm() > 0 for gradient in expected.values())
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-6, msg=name)


def test_each_image_of_a_step_goes_through_the_frozen_encoder_once(plain, tmp_path):
    _, theirs = plain
    trainer = sparing_trainer(tmp_path)
    seen = count_images(trainer.model)
    step_gradients(trainer)
    image = seen[0]
    assert seen == [image] * PROMPTS
    assert sum(theirs) >= 2 * PROMPTS * GENERATIONS * image  # generation, then each micro-batch


def test_a_micro_batch_reads_its_prompt_once(tmp_path):
    trainer, read = sparing_trainer(tmp_path), []
    trainer.model.get_input_embeddings().register_forward_hook(
        lambda _, args, out: read.append(args[0].numel()) if torch.is_grad_enabled() else None
    )
    step_gradients(trainer)
    parts = trainer._buffered_inputs
    prompt, rollout = (parts[0][f"{what}_ids"].shape[1] for what in ("prompt", "completion"))
    assert read == [prompt - 1 + MICRO * rollout] * (PROMPTS * GENERATIONS // MICRO)


def test_a_micro_batch_holds_rollouts_of_one_question(tmp_path):
    trainer = trainer_of(GroupedGRPOTrainer, tmp_path)
    trainer.model.train()
    torch.manual_seed(0)
    trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    questions = [part["prompt_ids"] for part in trainer._buffered_inputs]
    assert len(questions) == PROMPTS * GENERATIONS // MICRO
    for ids in questions:
        assert torch.equal(ids, ids[:1].expand_as(ids))


@pytest.fixture
def encoder():
    model = AutoModelForImageTextToText.from_pretrained(EMBEDDED).requires_grad_(False)
    model.enable_input_require_grads()  # as for gradient checkpointing
    return model.model


def images(seed: int, *sides: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    width = 3 * 2 * 8 * 8
    patches = torch.cat([torch.randn(side * side, width, generator=generator) for side in sides])
    return {"hidden_states": patches, "grid_thw": torch.tensor([[1, side, side] for side in sides])}


def ask(encoder, batch):
    return encoder.visual(batch["hidden_states"], grid_thw=batch["grid_thw"]).pooler_output


def test_features_of_a_frozen_encoder_are_its_own_and_have_no_gradient(encoder):
    batch = images(0, 8, 4)
    expected = ask(encoder, batch)
    assert expected.requires_grad
    spare_frozen_encoders(encoder, 2)
    found = ask(encoder, batch)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ask(encoder, batch), found, rtol=0, atol=0)


def test_an_encoder_that_learns_keeps_its_gradient(encoder):
    spare_frozen_encoders(encoder, 2)
    encoder.visual.blocks[0].mlp.gate_proj.requires_grad_(True)
    before = ask(encoder, images(0, 8))
    assert before.requires_grad
    with torch.no_grad():
        encoder.visual.blocks[0].mlp.gate_proj.weight.add_(0.5)
    assert not torch.allclose(ask(encoder, images(0, 8)), before)


def test_only_the_newest_images_are_kept_and_others_are_computed(encoder):
    spare_frozen_encoders(encoder, 1)
    seen = []
    encoder.visual.patch_embed.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    for seed in (0, 0, 1, 1, 0):
        ask(encoder, images(seed, 8))
    assert len(seen) == 3


def test_another_arithmetic_is_computed_anew(encoder):
    spare_frozen_encoders(encoder, 4)
    exact = ask(encoder, images(0, 8))
    with torch.autocast("cpu", torch.bfloat16):
        rough = ask(encoder, images(0, 8))
    assert not torch.equal(exact, rough.float())


def test_outputs_of_several_layers_are_joined_layer_by_layer():
    first = {"pooler_output": torch.zeros(2, 3), "deepstack": [torch.ones(2, 3), torch.zeros(2, 3)]}
    second = {"pooler_output": torch.ones(1, 3), "deepstack": [torch.zeros(1, 3), torch.ones(1, 3)]}
    found = joined([first, second])
    assert found["pooler_output"].tolist() == [[0] * 3, [0] * 3, [1] * 3]
    assert found["deepstack"][1].tolist() == [[0] * 3, [0] * 3, [1] * 3]
    assert found["deepstack"][0].tolist() == [[1] * 3, [1] * 3, [0] * 3]
