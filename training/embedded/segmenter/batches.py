# SPDX-License-Identifier: Apache-2.0
"""Batches of synthetic crops and clips with prompts, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from medreasoner_infer.keypoints import bbox_from_mask
from medreasoner_infer.segmenters.pixels import IMAGE_MEAN, IMAGE_STD
from medreasoner_training.embedded.required import required
from medreasoner_training.embedded.segmenter.appearance import Appearance
from medreasoner_training.embedded.segmenter.measures import EMPTY
from medreasoner_training.embedded.segmenter.prompts import (
    PromptKind,
    SparsePrompt,
    sample_kind,
    sample_prompt,
)
from medreasoner_training.embedded.segmenter.scenes import sample_scene

_MIN_TARGET_PX = 100
_MIN_VISIBLE_PX = 20
_VIEWS_PER_SCENE = 2
#: Longest side of the crop over that of the target, where it is not the usual one.
_ZOOM = {
    PromptKind.TWO_POINTS: (1.4, 3.5),  # without a box the crop is a guess
    PromptKind.ONE_POINT: (1.4, 3.5),
    PromptKind.NEIGHBOUR: (1.5, 2.2),
}


@dataclass(frozen=True)
class CropBatch:
    """Prompted crops.

    ``images`` is float32 (B, 3, S, S), normalised; ``targets`` float32 (B, S, S) in {0, 1};
    ``coordinates`` float32 (B, P, 2) edge-based px; ``labels`` int32 (B, P);
    ``prompt_masks`` float32 (B, S, S) in {0, 1} or None.
    """

    images: torch.Tensor
    targets: torch.Tensor
    coordinates: torch.Tensor
    labels: torch.Tensor
    prompt_masks: torch.Tensor | None


@dataclass(frozen=True)
class ClipBatch:
    """Clips of T slices, prompted on the first: images (B, T, 3, S, S), targets (B, T, S, S)."""

    images: torch.Tensor
    targets: torch.Tensor
    coordinates: torch.Tensor
    labels: torch.Tensor


def normalise(images: np.ndarray) -> torch.Tensor:
    """Grey values 0...255 of shape (..., S, S) to SAM2's input, float32 (..., 3, S, S)."""
    grey = torch.from_numpy(np.asarray(images, np.float32))[..., None, :, :] / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    return (grey - mean) / std


def sample_crops(rng: np.random.Generator, size: int, kind: PromptKind | None = None) -> CropBatch:
    """Draw a batch of prompted crops, all with prompts of one kind."""
    kind = kind or sample_kind(rng)
    crops: list[_Crop] = []
    while len(crops) < size:
        crops += _views_of_a_scene(rng, kind)
    crops = crops[:size]
    return CropBatch(
        normalise(np.stack([crop.image for crop in crops])),
        float_masks([crop.target for crop in crops]),
        torch.from_numpy(np.stack([crop.prompt.coordinates_xy_px for crop in crops])),
        torch.from_numpy(np.stack([crop.prompt.labels for crop in crops])),
        float_masks([crop.prompt_mask for crop in crops]) if kind is PromptKind.NEIGHBOUR else None,
    )


@dataclass(frozen=True)
class _Crop:
    image: np.ndarray
    target: np.ndarray
    prompt_mask: np.ndarray
    prompt: SparsePrompt


def _views_of_a_scene(rng: np.random.Generator, kind: PromptKind) -> list[_Crop]:
    """Mirrored views of one scene, each with a look of its own: shapes cost more than looks."""
    prompt_z, z = _heights(rng, kind)
    scene = sample_scene(rng, _ZOOM.get(kind, (1.4, 2.0)), prompt_z)
    labels, target = scene.render(z)
    prompted = target if z == prompt_z else scene.render(prompt_z)[1]
    views = []
    for _ in range(_VIEWS_PER_SCENE):
        appearance = Appearance.sample(rng, scene)
        shown, found, asked = mirrored(rng, labels, target, prompted)
        found, asked = appearance.pixelated(found), appearance.pixelated(asked)
        if kind is PromptKind.NEIGHBOUR:
            asked = roughened(rng, asked)
        if usable(asked) and not 0 < found.sum() < _MIN_VISIBLE_PX:
            prompt = sample_prompt(rng, asked, kind)
            views.append(_Crop(appearance.image(rng, shown, z), found, asked, prompt))
    return views


def mirrored(rng: np.random.Generator, *arrays: np.ndarray) -> list[np.ndarray]:
    """The same random quarter turns and flip of all arrays (..., S, S)."""
    turn, flip = int(rng.integers(4)), bool(rng.integers(2))
    turned = [np.rot90(array, turn, axes=(-2, -1)) for array in arrays]
    return [array[..., ::-1] if flip else array for array in turned]


def sample_clips(rng: np.random.Generator, size: int, length: int) -> ClipBatch:
    """Draw clips whose target is present on the first slice and may end on a later one."""
    images: list[list[np.ndarray]] = []
    targets, prompts = [], []
    while len(images) < size:
        start, step = rng.uniform(-0.95, 0.95), np.exp(rng.uniform(np.log(0.03), np.log(0.4)))
        heights = start + rng.choice([-1, 1]) * step * np.arange(length)
        scene = sample_scene(rng, (1.6, 3.2), start)
        appearance = Appearance.sample(rng, scene)
        labels, masks = zip(*[scene.render(z) for z in heights], strict=True)
        masks = [appearance.pixelated(mask) for mask in masks]
        if not usable(masks[0]):
            continue
        pairs = zip(labels, heights, strict=True)
        images.append([appearance.image(rng, label_map, z) for label_map, z in pairs])
        targets.append(masks)
        prompts.append(sample_prompt(rng, masks[0], PromptKind.BOX_AND_POINTS))
    return ClipBatch(
        normalise(np.array(images)),
        float_masks(targets),
        torch.from_numpy(np.stack([p.coordinates_xy_px for p in prompts])),
        torch.from_numpy(np.stack([p.labels for p in prompts])),
    )


def _heights(rng: np.random.Generator, kind: PromptKind) -> tuple[float, float]:
    """Heights of the prompted slice and of the slice to segment."""
    if kind is not PromptKind.NEIGHBOUR:
        return 0.0, 0.0
    step = np.exp(rng.uniform(np.log(0.03), np.log(0.5)))
    start = 1 - step * rng.random() if rng.random() < 0.3 else rng.uniform(0, 0.95)
    start = min(start, 0.98)
    sign = rng.choice([-1, 1])
    return sign * start, sign * (start + step * rng.choice([-1, 1], p=[0.25, 0.75]))


def roughened(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """A mask shifted, grown or shrunk a little, lest the model learn to copy its mask prompt."""
    from scipy.ndimage import binary_dilation, binary_erosion

    rough = np.roll(mask, rng.integers(-4, 5, 2), axis=(0, 1))
    change = int(rng.integers(-4, 5))
    if change < 0:
        eroded = binary_erosion(rough, iterations=-change)
        return eroded if usable(eroded) else rough
    return binary_dilation(rough, iterations=change) if change else rough


def usable(mask: np.ndarray) -> bool:
    """Whether a mask is large enough to prompt and lies well inside the crop."""
    if mask.sum() < _MIN_TARGET_PX:
        return False
    x1, y1, x2, y2 = required(bbox_from_mask(mask), EMPTY)
    return min(x2 - x1, y2 - y1) >= 6 and max(x2 - x1, y2 - y1) < 0.95 * mask.shape[0]


def float_masks(masks: list) -> torch.Tensor:
    """Bool masks, stacked, as float32 in {0, 1}."""
    return torch.from_numpy(np.array(masks, np.float32))
