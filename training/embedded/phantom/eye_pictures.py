# SPDX-License-Identifier: Apache-2.0
"""Simple pictures of the eye's background: a photograph, and the vessels in OCT angiography."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .lesion_pictures import SIZE_PX, blob, texture


def fundus_picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Optic disc, vessels and macula in a round field: grey uint8 and mask bool, both (H, W)."""
    rows, columns = shape = int(SIZE_PX * rng.uniform(0.62, 0.95)), SIZE_PX
    y, x = np.mgrid[:rows, :columns]
    centre, radius = (rows / 2, columns / 2), columns * rng.uniform(0.42, 0.5)
    side = 1 if rng.random() < 0.5 else -1
    aside = side * radius * rng.uniform(0.5, 0.9)
    disc = (centre[0] + rng.normal(0, 0.06) * rows, centre[1] + aside)
    half = radius * rng.uniform(0.11, 0.17)
    mask = np.hypot((y - disc[0]) / (half * rng.uniform(1.0, 1.3)), (x - disc[1]) / half) < 1
    image = rng.uniform(65, 130) + texture(rng, shape, 6.0, 9.0)
    macula = np.hypot(y - centre[0], x - centre[1] + side * radius * rng.uniform(0.0, 0.2))
    image -= rng.uniform(10, 35) * np.exp(-((macula / (radius * 0.2)) ** 2))
    image -= rng.uniform(20, 50) * _vessels(rng, shape, disc, side)
    image += rng.uniform(40, 110) * ndimage.gaussian_filter(mask.astype(float), 1.0)
    if rng.random() < 0.35:
        patch = blob(rng, shape, rng.uniform(0.04, 0.12)) & (texture(rng, shape, 1.0, 2.0) > 0.5)
        image[patch & ~mask] += rng.uniform(30, 100)
    inside = np.hypot(y - centre[0], x - centre[1]) < radius
    return np.clip(image * inside, 0, 255).astype(np.uint8), mask & inside


def _vessels(
    rng: np.random.Generator, shape: tuple[int, int], disc: tuple[float, float], side: int
) -> np.ndarray:
    """Arcs that leave the disc above and below the macula and on its other side, 0 to 1."""
    drawn = np.zeros(shape)
    along = np.linspace(0, 1, 160)
    for up in (-1, 1):
        for _ in range(int(rng.integers(3, 6))):
            towards = -side if rng.random() < 0.75 else side
            reach, height = rng.uniform(0.3, 0.85) * shape[1], rng.uniform(0.1, 0.55) * shape[0]
            row = disc[0] + up * height * np.sin(along * rng.uniform(1.2, 2.6))
            row += np.cumsum(rng.normal(0, 0.25, along.size))
            column = disc[1] + towards * reach * along ** rng.uniform(1.0, 1.8)
            at = (row > 0) & (row < shape[0] - 1) & (column > 0) & (column < shape[1] - 1)
            drawn[row[at].astype(int), column[at].astype(int)] = rng.uniform(0.5, 1.0)
    wide = ndimage.grey_dilation(drawn, size=(2, 2))
    return ndimage.gaussian_filter(wide, 0.6)


def angiography_picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A net of capillaries round the avascular zone: grey uint8 and mask bool, both (H, W)."""
    shape = (SIZE_PX, SIZE_PX)
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX]
    centre = SIZE_PX / 2 + rng.normal(0, 0.03, 2) * SIZE_PX
    angle = np.arctan2(y - centre[0], x - centre[1])
    outline = 1 + sum(
        rng.normal(0, 0.12 / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(1, 7)
    )
    distance = np.hypot(y - centre[0], x - centre[1]) / outline
    mask = distance < SIZE_PX * rng.uniform(0.06, 0.17)
    net = np.abs(texture(rng, shape, 1.0, rng.uniform(0.6, 1.2)))
    net += rng.uniform(0.0, 1.0) * np.abs(rng.standard_normal(shape))
    image = rng.uniform(40, 110) * net * (1 + texture(rng, shape, 0.1, 20.0))
    for _ in range(int(rng.integers(0, 7))):
        row = rng.uniform(0, SIZE_PX) + np.cumsum(rng.normal(0, 0.6, SIZE_PX))
        line = np.abs(y - row[None, :]) if rng.random() < 0.6 else np.abs(x - row[:, None])
        image[line < rng.uniform(0.6, 1.6)] += rng.uniform(-80, 110)
    dim = ndimage.gaussian_filter(mask.astype(float), rng.uniform(0.8, 2.0))
    image *= 1 - rng.uniform(0.8, 0.95) * dim
    return np.clip(image, 0, 255).astype(np.uint8), mask
