# SPDX-License-Identifier: Apache-2.0
"""Batches of synthetic crops and clips with prompts, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from medreasoner_infer.keypoints import bbox_from_mask
from medreasoner_training.segmenter.appearance import Appearance
from medreasoner_training.segmenter.prompts import PromptKind, sample_kind, sample_prompt
from medreasoner_training.segmenter.scenes import Scene, sample_scene

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_MIN_TARGET_PX = 100


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
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (_MEAN, _STD))
    return (grey - mean) / std


def sample_crops(rng: np.random.Generator, size: int, kind: PromptKind | None = None) -> CropBatch:
    """Draw a batch of prompted crops, all with prompts of one kind."""
    kind = kind or sample_kind(rng)
    zoom = (1.4, 2.0)
    if kind in (PromptKind.TWO_POINTS, PromptKind.ONE_POINT):
        zoom = (1.4, 3.5)  # without a box the crop is a guess
    elif kind is PromptKind.NEIGHBOUR:
        zoom = (1.5, 2.2)
    images, targets, prompts, masks = [], [], [], []
    while len(images) < size:
        prompt_z, z = _heights(rng, kind)
        scene, appearance = _sample(rng, zoom, prompt_z)
        labels, target = scene.render(z)
        target = appearance.pixelated(target)
        prompt_mask = target
        if z != prompt_z:
            prompt_mask = appearance.pixelated(scene.render(prompt_z)[1])
        if not _usable(prompt_mask) or 0 < target.sum() < 20:
            continue
        images.append(appearance.image(rng, labels, z))
        targets.append(target)
        masks.append(prompt_mask)
        prompts.append(sample_prompt(rng, prompt_mask, kind))
    return CropBatch(
        normalise(np.stack(images)),
        _float(targets),
        torch.from_numpy(np.stack([p.coordinates_xy_px for p in prompts])),
        torch.from_numpy(np.stack([p.labels for p in prompts])),
        _float(masks) if kind is PromptKind.NEIGHBOUR else None,
    )


def sample_clips(rng: np.random.Generator, size: int, length: int) -> ClipBatch:
    """Draw clips whose target is present on the first slice and may end on a later one."""
    images, targets, prompts = [], [], []
    while len(images) < size:
        start, step = rng.uniform(-0.95, 0.95), np.exp(rng.uniform(np.log(0.03), np.log(0.4)))
        heights = start + rng.choice([-1, 1]) * step * np.arange(length)
        scene, appearance = _sample(rng, (1.6, 3.2), start)
        labels, masks = zip(*[scene.render(z) for z in heights], strict=True)
        masks = [appearance.pixelated(mask) for mask in masks]
        if not _usable(masks[0]):
            continue
        pairs = zip(labels, heights, strict=True)
        images.append([appearance.image(rng, label_map, z) for label_map, z in pairs])
        targets.append(masks)
        prompts.append(sample_prompt(rng, masks[0], PromptKind.BOX_AND_POINTS))
    return ClipBatch(
        normalise(np.array(images)),
        _float(targets),
        torch.from_numpy(np.stack([p.coordinates_xy_px for p in prompts])),
        torch.from_numpy(np.stack([p.labels for p in prompts])),
    )


def _sample(
    rng: np.random.Generator, zoom: tuple[float, float], z: float
) -> tuple[Scene, Appearance]:
    scene = sample_scene(rng, zoom, z)
    return scene, Appearance.sample(rng, scene)


def _heights(rng: np.random.Generator, kind: PromptKind) -> tuple[float, float]:
    """Heights of the prompted slice and of the slice to segment."""
    if kind is not PromptKind.NEIGHBOUR:
        return 0.0, 0.0
    step = np.exp(rng.uniform(np.log(0.02), np.log(0.35)))
    start = 1 - step * rng.random() if rng.random() < 0.3 else rng.uniform(0, 0.95)
    start = min(start, 0.98)
    sign = rng.choice([-1, 1])
    return sign * start, sign * (start + step * rng.choice([-1, 1], p=[0.25, 0.75]))


def _usable(mask: np.ndarray) -> bool:
    """Whether a mask is large enough to prompt and lies well inside the crop."""
    if mask.sum() < _MIN_TARGET_PX:
        return False
    x1, y1, x2, y2 = bbox_from_mask(mask)
    return min(x2 - x1, y2 - y1) >= 6 and max(x2 - x1, y2 - y1) < 0.95 * mask.shape[0]


def _float(masks: list) -> torch.Tensor:
    return torch.from_numpy(np.array(masks, np.float32))
