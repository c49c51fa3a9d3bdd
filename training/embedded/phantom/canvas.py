# SPDX-License-Identifier: Apache-2.0
"""The pixel grid of a section and the canvas on which its structures are painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .anatomy import Label, Tube
from .tissues import Tissue
from .torso import Ball, TorsoPhantom, Variation


@dataclass(frozen=True)
class SliceGrid:
    """Where the pixels of a section lie in the body frame.

    ``shape_hw`` pixels of ``spacing_mm``; ``centre_xy_mm`` is the body position (x left, y back) of
    the image centre; ``rotation_rad`` turns the body clockwise as displayed.
    """

    shape_hw: tuple[int, int]
    spacing_mm: float
    centre_xy_mm: tuple[float, float] = (0.0, 0.0)
    rotation_rad: float = 0.0

    def body_xy_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """Body coordinates of the pixel centres, two float32 arrays of ``shape_hw``."""
        rows, cols = self.shape_hw
        x = (np.arange(cols, dtype=np.float32) - (cols - 1) / 2)[None] * self.spacing_mm
        y = (np.arange(rows, dtype=np.float32) - (rows - 1) / 2)[:, None] * self.spacing_mm
        cos, sin = np.float32(np.cos(self.rotation_rad)), np.float32(np.sin(self.rotation_rad))
        return cos * x + sin * y + self.centre_xy_mm[0], cos * y - sin * x + self.centre_xy_mm[1]


@dataclass(frozen=True)
class Section:
    """One axial section: ``tissue`` and ``labels`` are uint8 of shape (H, W)."""

    tissue: np.ndarray
    labels: np.ndarray


class Canvas:
    """Paints structures of one section, later ones over earlier ones."""

    def __init__(self, torso: TorsoPhantom, z_mm: float, grid: SliceGrid) -> None:
        self.torso = torso
        self.z = z_mm / torso.height_scale
        x, y = grid.body_xy_mm()
        self.width, self.depth = torso.half_width_mm(z_mm), torso.half_depth_mm(z_mm)
        self.u_wall, self.v_wall = x / self.width, y / self.depth
        self.u, self.v = _warped(torso, self.u_wall, self.v_wall, self.z)
        self.tissue = np.zeros(grid.shape_hw, np.uint8)
        self.labels = np.zeros(grid.shape_hw, np.uint8)

    def paint(self, where: np.ndarray, tissue: Tissue, label: Label | None = None) -> None:
        """Set the tissue, and the label unless ``None`` (which keeps what is there)."""
        self.tissue[where] = tissue
        if label is not None:
            self.labels[where] = label

    def ellipse(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        tilt_deg: float = 0.0,
        exponent: float = 2.0,
    ) -> np.ndarray:
        """Superelliptic distance, < 1 inside; half axes in the cavity frame."""
        du, dv = self.u - np.float32(centre[0]), self.v - np.float32(centre[1])
        if tilt_deg:
            aspect = np.float32(self.depth / self.width)
            cos, sin = (
                np.float32(np.cos(np.deg2rad(tilt_deg))),
                np.float32(np.sin(np.deg2rad(tilt_deg))),
            )
            du, dv = cos * du + sin * aspect * dv, cos * dv - sin / aspect * du
        du, dv = np.abs(du / np.float32(radii[0])), np.abs(dv / np.float32(radii[1]))
        if exponent == 2.0:
            return du * du + dv * dv
        return du ** np.float32(exponent) + dv ** np.float32(exponent)

    def tube(self, tube: Tube) -> np.ndarray | None:
        """Distance field of a tube's section, or ``None`` where the tube does not reach."""
        section = tube_section(tube, self.torso.variations[tube.group], self.z)
        if section is None:
            return None
        u, v, ru, rv = section
        return self.ellipse((u, v), (ru, rv), tube.tilt_deg, tube.exponent)

    def ball(self, ball: Ball) -> np.ndarray | None:
        """Inside mask of an ellipsoid's section, or ``None``."""
        height = 1.0 - ((self.z - ball.centre[2]) / ball.radii[2]) ** 2
        if height <= 0.02:
            return None
        scale = np.sqrt(height)
        return self.ellipse(ball.centre[:2], (ball.radii[0] * scale, ball.radii[1] * scale)) < 1

    def waves(self, frequency: float, threshold: float, offset: int = 0) -> np.ndarray:
        """A sparse blob texture that continues through neighbouring sections."""
        phase = self.torso.texture_phase
        field = np.sin(frequency * self.u_wall + 0.09 * self.z + phase[offset])
        field = field + np.sin(
            frequency * 0.6 * (self.v_wall - self.u_wall) - 0.07 * self.z + phase[offset + 1]
        )
        field = field + np.sin(frequency * 0.8 * self.v_wall + 0.11 * self.z + phase[offset + 2])
        return field > threshold


def _warped(
    torso: TorsoPhantom, u: np.ndarray, v: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray]:
    moved = [u, v]
    for amplitude, ku, kv, kz, phase, axis in torso.warp.astype(np.float32):
        moved[int(axis)] = moved[int(axis)] + amplitude * np.sin(ku * u + kv * v + (kz * z + phase))
    return moved[0], moved[1]


def tube_section(
    tube: Tube, variation: Variation, z: float
) -> tuple[float, float, float, float] | None:
    """Centre and half axes (u, v, ru, rv) of a tube at average-anatomy height ``z`` in mm.

    ``None`` where the tube does not reach or the structure is absent in this individual.
    """
    if variation.absent:
        return None
    stations = np.asarray(tube.stations)
    middle = stations[:, 0].mean()
    height = (z - variation.shift_z_mm - middle) / variation.scale_z + middle
    if not stations[0, 0] <= height <= stations[-1, 0]:
        return None
    u, v, ru, rv = (float(np.interp(height, stations[:, 0], stations[:, k])) for k in range(1, 5))
    return (
        u + variation.shift_uv[0],
        v + variation.shift_uv[1],
        ru * variation.scale_uv[0],
        rv * variation.scale_uv[1],
    )
