# SPDX-License-Identifier: Apache-2.0
"""Simple pictures with one lesion: skin under a dermatoscope, the brain in an axial MR section."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SIZE_PX = 128


def skin_picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A dark spot on brighter skin: grey uint8 and mask bool, both (H, W)."""
    rows, columns = shape = int(SIZE_PX * rng.uniform(0.72, 1.0)), SIZE_PX
    mask = blob(rng, shape, rng.uniform(0.12, 0.42))
    skin = rng.uniform(140.0, 225.0) + texture(rng, shape, 4.0, 20.0)
    dark = rng.uniform(25.0, 110.0) * ndimage.gaussian_filter(mask.astype(float), rng.uniform(1, 4))
    spots = dark / 110.0 * texture(rng, shape, 20.0, 1.5)
    image = skin - dark - spots - _hairs(rng, shape)
    if rng.random() < 0.35:
        y, x = np.mgrid[:rows, :columns]
        radius = np.hypot(y - rows / 2, x - columns / 2) / (columns / 2)
        image = image * (1 - np.clip((radius - rng.uniform(0.85, 1.1)) * 8, 0, 1))
    return np.clip(image, 0, 255).astype(np.uint8), mask


def brain_picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A bright lesion in a brain within its skull: grey uint8 and mask bool, both (H, W)."""
    shape = (SIZE_PX, int(SIZE_PX * rng.uniform(0.8, 1.0)))
    y, x = np.mgrid[: shape[0], : shape[1]]
    centre = np.array(shape) / 2 + rng.normal(0, 3, 2)
    radii = np.array(shape) * (rng.uniform(0.42, 0.5), rng.uniform(0.36, 0.46))
    distance = np.hypot((y - centre[0]) / radii[0], (x - centre[1]) / radii[1])
    image = np.zeros(shape)
    brain = distance < 0.86
    image[brain] = rng.uniform(70, 130)
    image += brain * texture(rng, shape, 12.0, rng.uniform(1.5, 4.0))
    image[(distance < 1.0) & (distance >= 0.94)] = rng.uniform(150, 250)
    ventricle = np.hypot((y - centre[0]) / 18, (np.abs(x - centre[1]) - 6) / 4) < 1
    image[ventricle] = rng.uniform(20, 60)
    lesion = blob(rng, shape, rng.uniform(0.05, 0.16)) & brain
    bright = rng.uniform(35, 130) * (1 if rng.random() < 0.8 else -0.5)
    image += bright * ndimage.gaussian_filter(lesion.astype(float), 0.8)
    image = ndimage.gaussian_filter(image, 0.5) + rng.normal(0, rng.uniform(1, 6), shape)
    return np.clip(image, 0, 255).astype(np.uint8), lesion


def blob(rng: np.random.Generator, shape: tuple[int, int], size: float) -> np.ndarray:
    """A region of irregular outline somewhere in the picture, not cut by its edge."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    radius = size * min(shape)
    low, high = radius, np.array(shape) - radius
    cy, cx = rng.uniform(low, np.maximum(high, low + 1))
    if rng.random() < 0.6:  # most are centred
        cy, cx = np.array(shape) / 2 + rng.normal(0, 0.08, 2) * shape
    angle = np.arctan2(y - cy, x - cx) + rng.uniform(0, 2 * np.pi)
    outline = 1 + sum(
        rng.normal(0, 0.16 / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(1, 7)
    )
    aspect = rng.uniform(0.7, 1.4)
    return np.hypot((y - cy) * aspect, (x - cx) / aspect) < radius * outline


def texture(
    rng: np.random.Generator, shape: tuple[int, int], strength: float, size_px: float
) -> np.ndarray:
    """Noise of a standard deviation of ``strength`` whose grains have ``size_px``."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), size_px)
    return strength * noise / max(float(noise.std()), 1e-6)


def _hairs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    dark = np.zeros(shape)
    for _ in range(int(rng.integers(0, 7)) if rng.random() < 0.4 else 0):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-60, 60)
        line = (x - shape[1] / 2) * np.cos(angle) + (y - shape[0] / 2) * np.sin(angle) - offset
        bend = 0.002 * rng.normal() * (y - shape[0] / 2) ** 2
        dark[np.abs(line + bend) < 0.8] = 90.0
    return dark
