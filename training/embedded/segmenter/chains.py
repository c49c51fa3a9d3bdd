# SPDX-License-Identifier: Apache-2.0
"""Clips in which look-alikes follow the target, as one vertebra follows the other along a spine.

A segmenter that is prompted with its own last mask learns from them when to stop: where the target
has ended, and although something that looks the same stands in its place or begins soon after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from medreasoner_training.embedded.segmenter.appearance import Appearance
from medreasoner_training.embedded.segmenter.batches import float_masks, mirrored, normalise, usable
from medreasoner_training.embedded.segmenter.scenes import Extent, Region, Scene, sample_scene

_VIEWS_PER_SCENE = 2
_ZOOM = (1.5, 2.2)
#: A target that grows along the clip needs room in the crop, which stays where it is.
_GROWING_ZOOM = (1.8, 3.0)
#: Half the target's length in scene units; see the module ``scenes``.
_HALF_LENGTH = 1.0


@dataclass(frozen=True)
class ChainBatch:
    """B clips of T slices: images float32 (B, T, 3, S, S), targets (B, T, S, S) in {0, 1}.

    The target is visible on each clip's first slice and may have ended on any later one.
    """

    images: torch.Tensor
    targets: torch.Tensor


def sample_chains(
    rng: np.random.Generator, size: int, length: int, growing: float = 0.0
) -> ChainBatch:
    """Draw clips of a target with look-alikes before and behind it.

    Args:
        rng: source of randomness.
        size: number of clips.
        length: slices of a clip.
        growing: share of clips that begin near one end of the target and go into it, so that it
            grows from slice to slice; of the others two of three go towards its end.
    """
    clips: list[tuple[np.ndarray, np.ndarray]] = []
    while len(clips) < size:
        grows = growing > 0 and rng.random() < growing
        clips += _views_of_a_column(rng, length, grows)
    images, targets = zip(*clips[:size], strict=True)
    return ChainBatch(normalise(np.array(images)), float_masks(list(targets)))


def column_of(rng: np.random.Generator, scene: Scene) -> Scene:
    """Add look-alikes beyond both ends of the scene's target, whose parts end at heights of
    their own."""
    target = _with_uneven_ends(rng, scene.target)
    followers = [
        _moved_along_z(target, sign * (2 * _HALF_LENGTH + gap))
        for sign, gap in zip((-1, 1), rng.uniform(-0.1, 0.6, 2), strict=True)
        if rng.random() < 0.7
    ]
    return replace(scene, target=target, behind=(*scene.behind, *followers))


def _with_uneven_ends(rng: np.random.Generator, target: Region) -> Region:
    """Let a target's further parts begin and end elsewhere, as a vertebra's processes do."""
    if len(target.shapes) == 1 or rng.random() < 0.3:
        return target
    first, *others = target.shapes
    uneven = [
        replace(shape, extent=Extent(rng.uniform(-0.6, 0.6), rng.uniform(0.5, 1.2), 4.0))
        for shape in others
    ]
    return replace(target, shapes=(first, *uneven))


def _moved_along_z(region: Region, distance: float) -> Region:
    moved = [
        replace(shape, extent=replace(shape.extent, centre=shape.extent.centre + distance))
        for shape in region.shapes
    ]
    return replace(region, shapes=tuple(moved))


def _heights(rng: np.random.Generator, length: int, grows: bool) -> np.ndarray:
    """Heights of a clip's slices; of those that do not grow two of three reach the target's end."""
    step = np.exp(rng.uniform(np.log(0.03), np.log(0.4)))
    start = rng.uniform(-0.95, 0.95)
    if grows:
        start = rng.uniform(-0.97, -0.7)
    elif rng.random() < 0.67:
        start = max(-0.95, min(0.97, 1 - step * rng.uniform(0, length - 1)))
    return rng.choice([-1, 1]) * (start + step * np.arange(length))


def _views_of_a_column(
    rng: np.random.Generator, length: int, grows: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and targets (T, S, S) of one scene in several looks, mirrored and turned."""
    heights = _heights(rng, length, grows)
    scene = column_of(rng, sample_scene(rng, _GROWING_ZOOM if grows else _ZOOM, heights[0]))
    labels, masks = (np.stack(part) for part in zip(*map(scene.render, heights), strict=True))
    views = []
    for _ in range(_VIEWS_PER_SCENE):
        appearance = Appearance.sample(rng, scene)
        shown, truth = mirrored(rng, labels, masks)
        truth = np.stack([appearance.pixelated(mask) for mask in truth])
        if usable(truth[0]):
            pairs = zip(shown, heights, strict=True)
            images = [appearance.image(rng, label_map, z) for label_map, z in pairs]
            views.append((np.stack(images), truth))
    return views
