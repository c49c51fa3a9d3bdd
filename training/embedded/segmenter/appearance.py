# SPDX-License-Identifier: Apache-2.0
"""Grey values, artefacts and resolution of a synthetic slice: everything a scanner adds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from medreasoner_training.embedded.segmenter.scenes import Scene, SmoothNoise

#: Mean and spread (8-bit grey) of what a windowed CT shows: air, fat, soft tissue, enhanced, bone.
_TISSUES = np.array([[-30, 15], [40, 15], [130, 25], [190, 30], [290, 50]], float)
_NATIVE_SIZES_PX = (14, 18, 22, 26, 30, 36, 42, 50, 60, 72, 88, 104, 128)


@dataclass(frozen=True)
class Appearance:
    """How the labels of one scene look: one draw holds for all slices of a clip."""

    mean: np.ndarray
    texture_sd: np.ndarray
    texture: SmoothNoise
    bias: SmoothNoise | None
    noise_sd: float
    native_px: int
    blur_px: float
    gamma: float
    inverted: bool
    window: tuple[float, float]

    @classmethod
    def sample(cls, rng: np.random.Generator, scene: Scene) -> Appearance:
        """Draw an appearance for the labels of a scene."""
        fine = int(rng.integers(12, 80))
        return cls(
            mean=_sample_means(rng, scene),
            texture_sd=np.abs(rng.normal(0, rng.choice([2.0, 6.0, 14.0]), scene.labels)),
            texture=SmoothNoise.sample(rng, 1, fine),
            bias=SmoothNoise.sample(rng, 1, 3) if rng.random() < 0.4 else None,
            noise_sd=float(np.abs(rng.normal(0, 10))),
            native_px=int(rng.choice(_NATIVE_SIZES_PX)),
            blur_px=float(rng.choice([0.3, 0.7, 1.2])),
            gamma=float(np.exp(rng.normal(0, 0.3))) if rng.random() < 0.25 else 1.0,
            inverted=bool(rng.random() < 0.2),
            window=_sample_window(rng),
        )

    def image(self, rng: np.random.Generator, label_map: np.ndarray, z: float = 0.0) -> np.ndarray:
        """Turn a label map (S, S) into grey values, float32 in 0...255 of the same shape."""
        size = label_map.shape[0]
        clean = self.mean[label_map] + self.texture_sd[label_map] * self.texture.at(z, size)[0]
        if self.bias is not None:
            clean = clean * np.exp(0.2 * self.bias.at(z, size)[0])
        down = acquisition_matrix(size, self.native_px, self.blur_px)
        native = down @ clean.astype(np.float32) @ down.T
        native += self.noise_sd * rng.standard_normal(native.shape, dtype=np.float32)
        native = np.clip(self._display(native), 0, 255)
        up = linear_matrix(self.native_px, size)
        return up @ native @ up.T

    def pixelated(self, mask: np.ndarray) -> np.ndarray:
        """A mask (S, S) as an annotator draws it: whole native pixels, those half covered."""
        size = mask.shape[0]
        if self.native_px == size:
            return mask
        down = acquisition_matrix(size, self.native_px, 0.0)
        native = down @ mask.astype(np.float32) @ down.T > 0.5
        nearest = ((np.arange(size) + 0.5) / size * self.native_px).astype(int)
        return native[np.ix_(nearest, nearest)]

    def _display(self, grey: np.ndarray) -> np.ndarray:
        low, high = self.window
        unit = np.clip((grey - low) / (high - low), 0, 1)
        unit = unit**self.gamma if self.gamma != 1.0 else unit
        return np.round(255 * (1 - unit if self.inverted else unit)).astype(np.float32)


@cache
def acquisition_matrix(fine: int, native: int, blur_px: float) -> np.ndarray:
    """Matrix (native, fine): a detector of ``native`` cells with a Gaussian point spread.

    ``blur_px`` is the standard deviation in native pixels; the cell's own width comes on top.
    """
    centres = (np.arange(fine) + 0.5) / fine * native
    cells = np.arange(native) + 0.5
    sigma = np.hypot(blur_px * 0.6, 0.29)  # 0.29: standard deviation of a box of width 1
    weight = np.exp(-0.5 * ((cells[:, None] - centres[None]) / sigma) ** 2)
    return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


@cache
def linear_matrix(coarse: int, fine: int) -> np.ndarray:
    """Matrix (fine, coarse) of linear interpolation, pixel edges aligned, borders repeated."""
    position = np.clip((np.arange(fine) + 0.5) / fine * coarse - 0.5, 0, coarse - 1)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(coarse))).astype(np.float32)


def _sample_means(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """One mean grey value per label: unrelated values, tissue-like ones, or near equals."""
    n = scene.labels
    style = rng.random()
    if style < 0.3:
        mean = rng.uniform(-30, 285, n)
    else:
        tissue = _TISSUES[rng.choice(len(_TISSUES), n, p=[0.1, 0.25, 0.4, 0.15, 0.1])]
        mean = rng.normal(tissue[:, 0], tissue[:, 1])
    if rng.random() < 0.45:  # most labels close to the target: edges that can hardly be seen
        near = rng.random(n) < 0.6
        spread = np.exp(rng.uniform(np.log(5), np.log(40)))
        mean = np.where(near, mean[scene.target.label] + rng.normal(0, spread, n), mean)
    mean[scene.air_label] = rng.uniform(-40, 10)
    if rng.random() < 0.5:  # parts of the target that differ little from it
        parts = slice(scene.target.label + 1, scene.target.label + 4)
        mean[parts] = mean[scene.target.label] + rng.normal(0, 30, 3)
    return mean.astype(np.float32)


def _sample_window(rng: np.random.Generator) -> tuple[float, float]:
    if rng.random() < 0.6:
        return 0.0, 255.0
    low, high = rng.uniform(-60, 60), rng.uniform(190, 330)
    return float(low), float(high)
