# SPDX-License-Identifier: Apache-2.0
"""Rollouts behind one prompt have the probabilities and gradients of those behind one each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("trl", minversion="1.16", reason="sharing prompts needs the extra 'train'")

from support.tiny_families import EMBEDDED, qwen_folder
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl.trainer.utils import add_fused_lm_head

from medreasoner_training.finetune.shared_prompts import (
    Branches,
    asked_of,
    branches_of,
    model_inputs,
)

ROLLOUTS = 4


@pytest.fixture(params=["embedded", "qwen3_vl"])
def folder(request, tmp_path) -> Path:
    return qwen_folder(request.param, tmp_path)


@pytest.fixture
def model(folder):
    loaded = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float64)
    loaded.set_attn_implementation("sdpa")
    add_fused_lm_head(loaded, temperature=0.9, outputs=("log_probs", "entropy"))
    return loaded


@pytest.fixture
def batch(folder) -> dict[str, torch.Tensor]:
    """Four rollouts of each of two questions, whose prompts and rollouts have several lengths."""
    processor = AutoProcessor.from_pretrained(folder)
    side = 64 if folder != EMBEDDED else 128
    processor.image_processor.size = {"shortest_edge": side**2, "longest_edge": side**2}
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(2)]
    asked = "<|vision_start|><|image_pad|><|vision_end|>"
    texts = [f"{asked}Where is it?"] * ROLLOUTS + [
        f"{asked}Which of the two is it here?"
    ] * ROLLOUTS
    prompts = processor(
        text=texts,
        images=[[images[place // ROLLOUTS]] for place in range(2 * ROLLOUTS)],
        return_tensors="pt",
        padding=True,
        padding_side="left",
    )
    written = torch.from_numpy(rng.integers(10, 60, (2 * ROLLOUTS, 7)))
    lengths = torch.tensor([7, 3, 1, 5, 7, 7, 2, 6])
    mask = (torch.arange(7) < lengths[:, None]).long()
    zeros = torch.zeros_like(mask)
    return {
        "input_ids": torch.cat([prompts["input_ids"], written * mask], 1),
        "attention_mask": torch.cat([prompts["attention_mask"], mask], 1),
        "mm_token_type_ids": torch.cat([prompts["mm_token_type_ids"], zeros], 1),
        "pixel_values": prompts["pixel_values"].double(),
        "image_grid_thw": prompts["image_grid_thw"],
    }


def plain_pass(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[:, :-7] = -100
    outputs = model(**batch, labels=labels, fused_lm_head=True)
    return outputs.log_probs[:, -7:], outputs.entropy[:, -7:]


def shared_pass(model, batch, each: int) -> tuple[torch.Tensor, torch.Tensor]:
    branches = Branches(each, 7)
    inputs = model_inputs(model.model, branches, batch["input_ids"], batch["attention_mask"], batch)
    outputs = model(**inputs, fused_lm_head=True)
    return branches.apart(outputs.log_probs), branches.apart(outputs.entropy)


def learnt(model, log_probs, entropy) -> dict[str, torch.Tensor]:
    """Gradients of a loss in which every token has a weight of its own."""
    model.zero_grad()
    weights = torch.arange(1.0, log_probs.numel() + 1, dtype=torch.float64).view_as(log_probs)
    ((weights * log_probs).sum() + (weights.flip(0) * entropy.detach()).sum()).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters()
            if weight.grad is not None}  # fmt: skip


@pytest.mark.parametrize("each", [2, 4])
def test_probabilities_entropies_and_gradients_are_those_of_the_usual_pass(model, batch, each):
    expected = plain_pass(model, batch)
    gradients = learnt(model, *expected)
    found = shared_pass(model, batch, each)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert (expected[0] < 0).sum() == batch["attention_mask"][:, -7:].sum()
    shared = learnt(model, *found)
    assert shared.keys() == gradients.keys()
    for name, gradient in shared.items():  # rotary positions are computed in float32
        distance = (gradient - gradients[name]).norm() / gradients[name].norm().clamp(min=1e-9)
        assert distance < 1e-4, name


def test_a_branch_does_not_see_another_one(model, batch):
    log_probs, _ = shared_pass(model, batch, 4)
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][1, -6] = 61
    found, _ = shared_pass(model, changed, 4)
    differs = (found - log_probs).abs().max(dim=1).values > 1e-9
    assert differs.tolist() == [False, True] + [False] * 6


def test_the_same_question_about_another_image_is_another_one():
    prompts = torch.tensor([[7, 8]] * 4 + [[7, 9]] * 2)
    images = torch.arange(3.0).repeat_interleave(2)[:, None].repeat_interleave(4, 0)
    grid = torch.tensor([[1, 2, 2]] * 6)
    first, second = asked_of(prompts, images, grid)[1:3]
    assert first != second
    assert asked_of(prompts, images, grid) == [first] * 2 + [second] * 2 + [(2, 7, 9)] * 2
    assert branches_of(asked_of(prompts, images, grid), 1700, 1024, 3584).each == 2


@pytest.mark.parametrize(
    ("runs", "prompt", "completion", "expected"),
    [
        ([4], 1700, 1024, 4),  # a micro-batch of the shipped GPU settings
        ([8, 8], 1700, 1024, 8),
        ([4, 2], 1700, 1024, 2),
        ([1, 1, 1], 1700, 1024, None),
        ([16], 100, 40000, None),  # one row of all would be attention only
    ],
)
def test_as_many_rollouts_share_a_prompt_as_saves_time(runs, prompt, completion, expected):
    asked = [(number, 5) for number, count in enumerate(runs) for _ in range(count)]
    found = branches_of(asked, prompt, completion, width=3584)
    assert (None if found is None else found.each) == expected
