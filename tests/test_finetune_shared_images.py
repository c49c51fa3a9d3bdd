# SPDX-License-Identifier: Apache-2.0
"""Equal images share one pass through the image encoder, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_families import EMBEDDED, qwen_folder
from transformers import AutoModelForImageTextToText, AutoProcessor

from medreasoner_infer.reasoners.families import family_in, named_family
from medreasoner_training.finetune.shared_images import distinct_images, share_images

GRIDS = [[1, 8, 8], [1, 4, 8], [1, 8, 8]]
# Rollouts of three questions, in no order; the third image is as large as the first.
ORDER = [0, 2, 0, 1, 2, 0]


@pytest.fixture(params=["embedded", "qwen3_vl"])
def folder(request, tmp_path) -> Path:
    return qwen_folder(request.param, tmp_path)


@pytest.fixture
def whole(folder):
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float64)


@pytest.fixture
def model(whole):
    return whole.model


@pytest.fixture
def share(folder, model):
    return lambda: share_images(model, family_in(folder))


@pytest.fixture
def batch(model) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    width = model.visual.patch_embed.in_channels * model.visual.patch_embed.temporal_patch_size
    width *= model.visual.patch_embed.patch_size**2
    images = [
        torch.randn(h * w, width, generator=generator, dtype=torch.float64) for _, h, w in GRIDS
    ]
    return {
        "pixel_values": torch.cat([images[place] for place in ORDER]),
        "image_grid_thw": torch.tensor([GRIDS[place] for place in ORDER]),
    }


def features(model, batch) -> list[torch.Tensor]:
    """Tokens of each image, for the language model's input and, where there are, further layers."""
    found = model.get_image_features(**batch, return_dict=True)
    further = getattr(found, "deepstack_features", None) or []
    return [each for images in (found.pooler_output, *further) for each in images]


def gradients(model, batch) -> dict[str, torch.Tensor]:
    """Of a loss in which every rollout has a weight of its own."""
    model.zero_grad()
    weighted = [(n + 1) * each.square().mean() for n, each in enumerate(features(model, batch))]
    sum(weighted).backward()
    return {name: weight.grad for name, weight in model.visual.named_parameters()}


def test_features_are_those_of_each_image_alone(model, batch, share):
    expected = features(model, batch)
    share()
    for ours, theirs in zip(features(model, batch), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_gradients_of_rollouts_that_share_an_image_add_up(model, batch, share):
    expected = gradients(model, batch)
    share()
    found = gradients(model, batch)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():  # rotary positions are computed in float32
        distance = (gradient - expected[name]).norm() / expected[name].norm()
        assert distance < 1e-4, name


def test_the_encoder_sees_every_image_once(model, batch, share):
    share()
    seen = []
    model.visual.patch_embed.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    features(model, batch)
    assert seen == [8 * 8 + 4 * 8 + 8 * 8]


def test_images_of_other_sizes_or_by_one_value_are_others():
    image = torch.zeros(4, 3)
    changed = image.clone()
    changed[3, 2] = 1e-6
    images = [image, torch.zeros(2, 6), image.clone(), changed]
    assert distinct_images(images) == ([0, 1, 3], [0, 1, 0, 2])


def test_loss_and_gradients_of_a_batch_of_rollouts_are_those_of_the_plain_path(
    folder, whole, share
):
    processor = AutoProcessor.from_pretrained(folder)
    side = 64 if folder != EMBEDDED else 128
    processor.image_processor.size = {"shortest_edge": side**2, "longest_edge": side**2}
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(2)]
    asked = "<|vision_start|><|image_pad|><|vision_end|>Where?"
    inputs = processor(
        text=[f"{asked} {answer}" for answer in ("here", "there", "not")],
        images=[[images[place]] for place in (0, 1, 0)],
        return_tensors="pt",
        padding=True,
    )
    inputs["pixel_values"] = inputs["pixel_values"].double()

    def learn():
        whole.zero_grad()
        loss = whole(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
        return loss, {name: weight.grad.clone() for name, weight in whole.named_parameters()}

    plain_loss, plain = learn()
    share()
    loss, shared = learn()
    torch.testing.assert_close(loss, plain_loss, rtol=0, atol=1e-9)
    assert shared.keys() == plain.keys()
    for name, gradient in shared.items():  # rotary positions are computed in float32
        distance = (gradient - plain[name]).norm() / plain[name].norm().clamp(min=1e-9)
        assert distance < 1e-4, name


def test_a_family_whose_encoder_takes_whole_images_is_left_alone_and_told(caplog):
    other = torch.nn.Sequential()
    other.visual = torch.nn.Linear(2, 2)
    with caplog.at_level("INFO"):
        share_images(other, named_family("gemma3"))
    assert not other.visual._forward_pre_hooks
    assert "Gemma 3 takes whole images" in caplog.text
