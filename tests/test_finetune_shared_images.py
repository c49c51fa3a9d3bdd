# SPDX-License-Identifier: Apache-2.0
"""Equal images share one pass through the image encoder, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

import medreasoner_infer
from medreasoner_training.finetune.shared_images import distinct_images, share_images

EMBEDDED = Path(medreasoner_infer.__file__).parent / "embedded" / "reasoner"
GRIDS = [[1, 8, 8], [1, 4, 8], [1, 8, 8]]
# Rollouts of three questions, in no order; the third image is as large as the first.
ORDER = [0, 2, 0, 1, 2, 0]


@pytest.fixture
def model():
    return AutoModelForImageTextToText.from_pretrained(EMBEDDED, dtype=torch.float64).model


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
    return list(model.get_image_features(**batch, return_dict=True).pooler_output)


def gradients(model, batch) -> dict[str, torch.Tensor]:
    """Of a loss in which every rollout has a weight of its own."""
    model.zero_grad()
    weighted = [(n + 1) * each.square().mean() for n, each in enumerate(features(model, batch))]
    sum(weighted).backward()
    return {name: weight.grad for name, weight in model.visual.named_parameters()}


def test_features_are_those_of_each_image_alone(model, batch):
    expected = features(model, batch)
    share_images(model)
    for ours, theirs in zip(features(model, batch), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_gradients_of_rollouts_that_share_an_image_add_up(model, batch):
    expected = gradients(model, batch)
    share_images(model)
    found = gradients(model, batch)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():  # rotary positions are computed in float32
        distance = (gradient - expected[name]).norm() / expected[name].norm()
        assert distance < 1e-4, name


def test_the_encoder_sees_every_image_once(model, batch):
    share_images(model)
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


def test_another_architecture_is_left_alone():
    other = torch.nn.Sequential(torch.nn.Linear(2, 2))
    share_images(other)
    assert not other[0]._forward_pre_hooks
