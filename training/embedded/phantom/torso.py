# SPDX-License-Identifier: Apache-2.0
"""One individual torso: how it differs from the average anatomy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .anatomy import (
    WALL_HALF_DEPTH_MM,
    WALL_HALF_WIDTH_MM,
    WALL_Z_MM,
    Label,
    average_anatomy,
)


@dataclass(frozen=True)
class Variation:
    """How one group of structures deviates from the average.

    ``shift_uv`` is added to the centre, ``scale_uv`` multiplies the half axes, ``shift_z_mm`` is
    added to the heights and ``scale_z`` stretches the structure about its middle.
    """

    shift_uv: tuple[float, float] = (0.0, 0.0)
    scale_uv: tuple[float, float] = (1.0, 1.0)
    shift_z_mm: float = 0.0
    scale_z: float = 1.0
    absent: bool = False


@dataclass(frozen=True)
class Ball:
    """An ellipsoidal lesion or bowel loop: centre (u, v, z mm) and half axes (u, v, z mm)."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    filling: int = 0


@dataclass(frozen=True)
class TorsoPhantom:
    """A sampled torso; heights are those of the average anatomy times ``height_scale``.

    Attributes:
        width_scale, depth_scale, height_scale: size of the wall relative to the average.
        fat_mm: subcutaneous fat at the front, the sides and the back.
        wall_exponent: exponent of the wall's superellipse.
        warp: (terms, 6) amplitude, wave numbers along u, v and z, phase, axis of a smooth warp
            that makes sections non-elliptic.
        dome_z_mm: height of the right and the left diaphragm dome.
        variations: deviation of each group of structures.
        bowel: small-bowel loops.
        lesions: label of a lesion and its shape; for an effusion only ``centre[1]`` counts, the v
            of the fluid level.
        stomach_level_v: v of the stomach's air-fluid level.
        rib_phase: phase of the rib pattern along z, in radians.
        texture_phase: phases of the vessel and faeces textures.
    """

    width_scale: float
    depth_scale: float
    height_scale: float
    fat_mm: tuple[float, float, float]
    wall_exponent: float
    warp: np.ndarray
    dome_z_mm: tuple[float, float]
    variations: dict[str, Variation]
    bowel: tuple[Ball, ...]
    lesions: tuple[tuple[Label, Ball], ...]
    stomach_level_v: float
    rib_phase: float
    texture_phase: np.ndarray = field(default_factory=lambda: np.zeros(6))

    def half_width_mm(self, z_mm: float) -> float:
        """Half width of the muscular wall at a height (body frame)."""
        z = z_mm / self.height_scale
        return self.width_scale * float(np.interp(z, WALL_Z_MM, WALL_HALF_WIDTH_MM))

    def half_depth_mm(self, z_mm: float) -> float:
        """Half depth of the muscular wall at a height (body frame)."""
        z = z_mm / self.height_scale
        return self.depth_scale * float(np.interp(z, WALL_Z_MM, WALL_HALF_DEPTH_MM))


_ABSENT_PROBABILITY = {
    "gallbladder": 0.12,
    "spleen": 0.04,
    "right kidney": 0.04,
    "left kidney": 0.04,
}
_SIZE_SPREAD = {
    "bladder": 0.22,
    "stomach": 0.16,
    "liver": 0.09,
    "spleen": 0.14,
    "gallbladder": 0.16,
}
_SHIFT_SPREAD = {"stomach": 0.06, "transverse colon": 0.07, "bladder": 0.04}


def _sample_variation(rng: np.random.Generator, group: str, vary: float) -> Variation:
    size = _SIZE_SPREAD.get(group, 0.09)
    shift = _SHIFT_SPREAD.get(group, 0.035)
    common = rng.normal(0.0, size) * vary
    return Variation(
        shift_uv=tuple(rng.normal(0.0, shift * vary, 2)),
        scale_uv=tuple(np.exp(common + rng.normal(0.0, 0.05 * vary, 2))),
        shift_z_mm=rng.normal(0.0, 10.0 * vary),
        scale_z=float(np.exp(0.6 * common + rng.normal(0.0, 0.06 * vary))),
        absent=rng.random() < _ABSENT_PROBABILITY.get(group, 0.0),
    )


def _sample_bowel(rng: np.random.Generator) -> tuple[Ball, ...]:
    loops = []
    for _ in range(int(rng.integers(40, 90))):
        z = rng.uniform(60.0, 245.0)
        u, v = rng.uniform(-0.5, 0.62), rng.uniform(-0.68, 0.02)
        radii = rng.uniform(0.08, 0.16), rng.uniform(0.10, 0.18), rng.uniform(12.0, 28.0)
        loops.append(Ball((u, v, z), radii, int(rng.random() < 0.25)))
    return tuple(loops)


def _sample_lesions(rng: np.random.Generator) -> tuple[tuple[Label, Ball], ...]:
    lesions: list[tuple[Label, Ball]] = []
    if rng.random() < 0.35:
        radius = rng.uniform(0.09, 0.24)
        centre = rng.uniform(-0.72, -0.2), rng.uniform(-0.35, 0.35), rng.uniform(265.0, 375.0)
        shape = radius, radius * rng.uniform(1.1, 1.6), radius * 130.0
        lesions.append((Label.LIVER_LESION, Ball(centre, shape)))
    if rng.random() < 0.3:
        side = rng.choice([-1.0, 1.0])
        radius = rng.uniform(0.08, 0.19)
        centre = side * rng.uniform(0.42, 0.56), rng.uniform(0.2, 0.5), rng.uniform(215.0, 300.0)
        shape = radius, radius * 1.4, radius * 140.0
        lesions.append((Label.KIDNEY_CYST, Ball(centre, shape)))
    if rng.random() < 0.35:
        side = rng.choice([-1.0, 1.0])
        radius = rng.uniform(0.07, 0.2)
        centre = side * rng.uniform(0.42, 0.75), rng.uniform(-0.5, 0.5), rng.uniform(400.0, 530.0)
        shape = radius * rng.uniform(0.8, 1.2), radius * 1.4, radius * 150.0
        lesions.append((Label.LUNG_TUMOUR, Ball(centre, shape)))
    if rng.random() < 0.25:
        side = rng.choice([-1.0, 1.0])
        lesions.append(
            (Label.PLEURAL_EFFUSION, Ball((side, rng.uniform(0.1, 0.6), 0.0), (1, 1, 1)))
        )
    return tuple(lesions)


def _sample_warp(rng: np.random.Generator, vary: float, terms: int = 5) -> np.ndarray:
    """See ``TorsoPhantom.warp``."""
    return np.column_stack(
        [
            rng.uniform(0.005, 0.026, terms) * vary,
            rng.uniform(-6.0, 6.0, (terms, 2)),
            rng.uniform(-0.03, 0.03, terms),
            rng.uniform(0.0, 2 * np.pi, terms),
            rng.integers(0, 2, terms),
        ]
    )


def sample_torso(rng: np.random.Generator, vary: float = 1.0) -> TorsoPhantom:
    """Draw a torso.

    Args:
        rng: the only source of randomness; equal generators give equal torsos.
        vary: 0 gives the average organ positions, 1 the training distribution.
    """
    warp = _sample_warp(rng, vary)
    obesity = rng.beta(1.6, 3.0)
    build = rng.normal(0.0, 0.06)
    dome = 400.0 + rng.normal(0.0, 12.0)
    return TorsoPhantom(
        width_scale=float(np.exp(build + 0.10 * obesity + rng.normal(0.0, 0.04)) * 0.98),
        depth_scale=float(np.exp(build + 0.22 * obesity + rng.normal(0.0, 0.06)) * 0.95),
        height_scale=float(np.exp(rng.normal(0.0, 0.05))),
        fat_mm=(
            4.0 + 45.0 * obesity * rng.uniform(0.5, 1.2),
            4.0 + 32.0 * obesity * rng.uniform(0.5, 1.2),
            7.0 + 40.0 * obesity * rng.uniform(0.5, 1.2),
        ),
        wall_exponent=rng.uniform(2.05, 2.6),
        warp=warp,
        dome_z_mm=(dome, dome - rng.uniform(4.0, 24.0)),
        variations={name: _sample_variation(rng, name, vary) for name in average_anatomy().groups},
        bowel=_sample_bowel(rng),
        lesions=_sample_lesions(rng),
        stomach_level_v=rng.uniform(-0.75, -0.05),
        rib_phase=rng.uniform(0.0, 2 * np.pi),
        texture_phase=rng.uniform(0.0, 2 * np.pi, 6),
    )
