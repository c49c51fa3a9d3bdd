# SPDX-License-Identifier: Apache-2.0
"""Chest radiographs of torso phantoms: parallel projection from front to back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .anatomy import TOP_Z_MM, Label
from .section import SliceGrid, render_section
from .tissues import Phase, Tissue, sample_hu_table
from .torso import sample_torso

PIXEL_MM = 6.0
SHAPE = (44, 64)
"""Rows (front to back) and columns of the sections that are projected."""
LUNG_MM = 30.0
"""Air along a ray that makes it look like lung."""
AIRWAY_MM, BODY_MM = 6.0, 20.0


@dataclass(frozen=True)
class Radiograph:
    """Grey uint8 (H, W) as displayed, the patient's right on the left; and masks by name."""

    grey: np.ndarray
    masks: dict[str, np.ndarray]


def chest_radiograph(rng: np.random.Generator, scale: int = 2) -> Radiograph:
    """Project the chest of a random torso.

    Names of the masks are ``left lung``, ``right lung``, ``cardiomediastinum``, ``airways`` and, in
    half of them, one of ``consolidation`` and ``ground-glass opacity``.

    Args:
        rng: the only source of randomness.
        scale: pixels for each of the projection's, which are of ``PIXEL_MM``.
    """
    torso = sample_torso(rng)
    table = sample_hu_table(rng, Phase.NATIVE)
    front, _, back = torso.fat_mm
    grid = SliceGrid(SHAPE, PIXEL_MM, (0.0, (back - front) / 2))
    low = rng.uniform(290.0, 345.0) * torso.height_scale
    heights = np.arange((TOP_Z_MM + 8.0) * torso.height_scale, low, -PIXEL_MM)
    sections = [render_section(torso, float(z), grid) for z in heights]
    labels = np.stack([s.labels for s in sections])
    density = np.maximum(0.0, table[np.stack([s.tissue for s in sections])] + 1000.0) / 1000.0
    density[np.stack([s.tissue for s in sections]) == Tissue.CORTICAL_BONE] *= 1.7
    path = _enlarged(density.sum(1) * PIXEL_MM, scale)
    lungs = {
        name: _enlarged((labels == label).sum(1) * PIXEL_MM, scale)
        for name, label in (("right lung", Label.RIGHT_LUNG), ("left lung", Label.LEFT_LUNG))
    }
    masks = {name: depth > LUNG_MM for name, depth in lungs.items()}
    masks["cardiomediastinum"] = _between(masks["right lung"], masks["left lung"])
    airway = _enlarged((labels == Label.TRACHEA).sum(1) * PIXEL_MM, scale) > AIRWAY_MM
    masks["airways"] = airway
    path = path - 25.0 * ndimage.gaussian_filter(airway.astype(float), 1.0)
    if rng.random() < 0.5:
        path, name, opacity = _clouded(path, masks, rng)
        masks[name] = opacity
    body = np.nonzero((path > BODY_MM).any(0))[0]
    margin = round(rng.uniform(-0.06, 0.02) * path.shape[1])
    columns = slice(max(0, body[0] - margin), body[-1] + 1 + margin)
    grey = _exposed(path[:, columns], rng)
    return Radiograph(grey, {name: mask[:, columns] for name, mask in masks.items()})


def _enlarged(image: np.ndarray, scale: int) -> np.ndarray:
    return ndimage.zoom(image, scale, order=1, grid_mode=True, mode="nearest")


def _between(right: np.ndarray, left: np.ndarray) -> np.ndarray:
    """What lies between both lungs on each row that shows both."""
    found = np.zeros_like(right)
    for row in np.nonzero(right.any(1) & left.any(1))[0]:
        start, end = np.nonzero(right[row])[0].max() + 1, np.nonzero(left[row])[0].min()
        found[row, start:end] = True
    return found


def _clouded(
    path: np.ndarray, masks: dict[str, np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, str, np.ndarray]:
    """An opacity in one or both lungs: dense as consolidation, or thin as ground glass."""
    lungs = masks["left lung"] | masks["right lung"]
    side = lungs if rng.random() < 0.5 else masks[str(rng.choice(["left lung", "right lung"]))]
    noise = ndimage.gaussian_filter(rng.standard_normal(path.shape), rng.uniform(3.0, 7.0))
    rows = np.linspace(-1, 1, path.shape[0])[:, None] * noise.std() * rng.uniform(0, 1.2)
    level = np.quantile((noise + rows)[side], rng.uniform(0.5, 0.8)) if side.any() else np.inf
    opacity = side & (noise + rows > level)
    dense = rng.random() < 0.4
    added = rng.uniform(35.0, 70.0) if dense else rng.uniform(12.0, 30.0)
    soft = ndimage.gaussian_filter(opacity.astype(float), 1.2)
    return path + added * soft, "consolidation" if dense else "ground-glass opacity", opacity


def _exposed(path: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey values of a radiograph, in which what absorbs is bright."""
    image = ndimage.gaussian_filter(path, rng.uniform(0.3, 0.8))
    low, high = np.quantile(image, (0.02, rng.uniform(0.9, 0.985)))
    image = np.clip((image - low) / max(high - low, 1.0), 0, 1.15) ** rng.uniform(0.7, 1.4)
    image = image * rng.uniform(0.75, 1.0) + rng.normal(0.0, rng.uniform(0.005, 0.03), image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)
