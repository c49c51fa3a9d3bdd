# SPDX-License-Identifier: Apache-2.0
"""Axial sections of a torso phantom: tissue and label maps on any pixel grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .anatomy import (
    CHEST_TUBES,
    COLON_TUBES,
    SOFT_TUBES,
    SPINE_V,
    SPINE_Z_MM,
    VERTEBRA_MM,
    VESSEL_TUBES,
    Label,
    Tube,
)
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


class _Canvas:
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


def render_section(torso: TorsoPhantom, z_mm: float, grid: SliceGrid) -> Section:
    """Cut the torso at height ``z_mm`` (body frame) on a pixel grid."""
    canvas = _Canvas(torso, z_mm, grid)
    wall = _paint_trunk(canvas)
    inside = wall < np.float32(0.9)
    _paint_soft(canvas, inside)
    _paint_bowel(canvas, inside)
    for tube in VESSEL_TUBES:
        distance = canvas.tube(tube)
        if distance is None or (tube.label == Label.AORTA and canvas.z > 508):
            continue
        where = (distance < 1) & inside
        if tube.label == Label.BACKGROUND:
            where &= canvas.labels == Label.BACKGROUND
        canvas.paint(where, tube.tissue, tube.label)
    if canvas.z > 300:
        _paint_chest(canvas, wall)
    _paint_lesions(canvas)
    _paint_bones(canvas, wall)
    return Section(canvas.tissue, canvas.labels)


def _paint_trunk(canvas: _Canvas) -> np.ndarray:
    """Body outline, fat, skin, wall; returns the wall's superelliptic norm."""
    torso, exponent = canvas.torso, np.float32(canvas.torso.wall_exponent)
    au, av = np.abs(canvas.u_wall), np.abs(canvas.v_wall)
    flat = np.where(canvas.v_wall > 0, av * np.float32(1.06), av)
    wall = (au**exponent + flat**exponent) ** (1 / exponent)
    warped = (np.abs(canvas.u) ** exponent + np.abs(canvas.v) ** exponent) ** (1 / exponent)
    wall = 0.5 * (wall + warped)
    front, side, back = torso.fat_mm
    share = flat / (au + flat + 1e-6)
    thickness = share * np.where(canvas.v_wall > 0, back, front) + (1 - share) * side
    outer = 1 + thickness * (0.9 + 0.25 * (canvas.z < 200)) / (
        share * canvas.depth + (1 - share) * canvas.width
    )
    skin = 2.2 / canvas.depth
    canvas.paint(wall < outer, Tissue.SKIN)
    canvas.paint(wall < outer - skin, Tissue.FAT)
    canvas.paint(wall < 1, Tissue.MUSCLE)
    cavity = 0.92 if canvas.z > 150 else 0.86
    canvas.paint((wall < cavity) & ((canvas.v < 0.62) | (canvas.z < 300)), Tissue.FAT)
    if canvas.z < 130:
        pelvic = (np.abs(canvas.u) > 0.62 - 0.12 * canvas.v) | (canvas.v > 0.62)
        canvas.paint((wall < 0.97) & pelvic & ~canvas.waves(16.0, 1.9), Tissue.MUSCLE)
    else:
        canvas.paint(canvas.waves(26.0, 2.35) & (wall < cavity) & (canvas.v < 0.4), Tissue.SOFT)
    return wall


def _paint_soft(canvas: _Canvas, inside: np.ndarray) -> None:
    for tube in COLON_TUBES + SOFT_TUBES:
        distance = canvas.tube(tube)
        if distance is None:
            continue
        where = (distance < 1) & inside
        if tube.tissue == Tissue.FAECES:
            _paint_colon(canvas, distance, where, tube)
            continue
        canvas.paint(where, tube.tissue, tube.label)
        if tube.label == Label.STOMACH:
            canvas.paint(where & (distance > 0.8), Tissue.SOFT)
            level = canvas.v_wall < canvas.torso.stomach_level_v
            canvas.paint(where & (distance <= 0.8) & level, Tissue.GAS)
        elif tube.label in (Label.RIGHT_KIDNEY, Label.LEFT_KIDNEY):
            _paint_renal_sinus(canvas, tube, where, distance)
    liver = canvas.labels == Label.LIVER
    if liver.any():
        canvas.paint(liver & canvas.waves(21.0, 2.3, 2), Tissue.LIVER_VESSEL)


def _paint_colon(canvas: _Canvas, distance: np.ndarray, where: np.ndarray, tube: Tube) -> None:
    canvas.paint(where, Tissue.SOFT)
    lumen = where & (distance < 0.78)
    canvas.paint(lumen, Tissue.FAECES)
    offset = len(tube.group) % 4
    canvas.paint(lumen & canvas.waves(38.0, 0.9, offset), Tissue.GAS)
    level = canvas.torso.texture_phase[offset] / np.pi - 1.0
    centre_v = tube_section(tube, canvas.torso.variations[tube.group], canvas.z)[1]
    canvas.paint(lumen & (canvas.v < centre_v + 0.12 * level), Tissue.GAS)


def _paint_renal_sinus(
    canvas: _Canvas, tube: Tube, kidney: np.ndarray, distance: np.ndarray
) -> None:
    canvas.paint(kidney & (distance < 0.55), Tissue.RENAL_MEDULLA)
    heights = [station[0] for station in tube.stations]
    variation = canvas.torso.variations[tube.group]
    section = tube_section(tube, variation, canvas.z)
    middle = (heights[0] + heights[-1]) / 2 + variation.shift_z_mm
    if section is None or abs(canvas.z - middle) > 0.27 * (heights[-1] - heights[0]):
        return
    u, v, ru, rv = section
    medial = u - np.sign(u) * 0.62 * ru
    sinus = canvas.ellipse((medial, v - 0.12), (0.62 * ru, 0.42 * rv), -tube.tilt_deg) < 1
    canvas.paint(sinus & kidney, Tissue.FAT, Label.BACKGROUND)
    pelvis = canvas.ellipse((medial - np.sign(u) * 0.02, v - 0.13), (0.3 * ru, 0.2 * rv)) < 1
    canvas.paint(pelvis, Tissue.URINE, Label.BACKGROUND)


def _paint_bowel(canvas: _Canvas, inside: np.ndarray) -> None:
    free = (canvas.labels == Label.BACKGROUND) & inside & (canvas.tissue == Tissue.FAT)
    for ball in canvas.torso.bowel:
        loop = canvas.ball(ball)
        if loop is None:
            continue
        where = loop & free
        canvas.paint(where, Tissue.BOWEL_CONTENT)
        if ball.filling:
            canvas.paint(where & (canvas.v < ball.centre[1] - 0.02), Tissue.GAS)


def _diaphragm_z(canvas: _Canvas) -> np.ndarray:
    """Height of the diaphragm above each pixel, in mm of the average anatomy."""
    right, left = canvas.torso.dome_z_mm
    side = np.where(canvas.u < 0, np.float32(-0.46), np.float32(0.46))
    dome = np.where(canvas.u < 0, np.float32(right), np.float32(left))
    du, dv = (canvas.u - side) / np.float32(0.5), (canvas.v + np.float32(0.1)) / np.float32(0.9)
    du = np.where(np.abs(canvas.u) < 0.46, np.float32(0.5) * du, du)
    back = np.where(canvas.v > -0.1, np.float32(85), np.float32(35))
    return dome - back * dv * dv - np.float32(48) * du * du


def _paint_chest(canvas: _Canvas, wall: np.ndarray) -> None:
    above = canvas.z > _diaphragm_z(canvas)
    apex = np.float32(0.91 * np.sqrt(max(0.02, 1 - (max(0.0, canvas.z - 470) / 105) ** 3)))
    lung = above & (wall < apex) & (np.abs(canvas.u) > 0.02)
    spine_v = float(np.interp(canvas.z, SPINE_Z_MM, SPINE_V))
    lung &= canvas.ellipse((0.0, spine_v + 0.22), (0.21, 0.46)) > 1
    lung &= (canvas.z > 392) | (canvas.v > -0.3) | (np.abs(canvas.u) > 0.62)
    chest = above & (wall < 0.91)
    canvas.paint(chest & ~lung, Tissue.FAT, Label.BACKGROUND)
    vessel = canvas.waves(34.0, 2.25, 1)
    for side, label in ((canvas.u < 0, Label.RIGHT_LUNG), (canvas.u >= 0, Label.LEFT_LUNG)):
        canvas.paint(lung & side, Tissue.LUNG, label)
        canvas.paint(lung & side & vessel, Tissue.LUNG_VESSEL)
    descending = canvas.tube(VESSEL_TUBES[1])
    for tube in CHEST_TUBES:
        distance = canvas.tube(tube)
        if distance is None:
            continue
        where = (distance < 1) & (wall < 0.93) & (above | (tube.label != Label.BACKGROUND))
        if tube.group == "heart":
            where &= wall < 0.86
        elif tube.group != "mediastinum" and canvas.z < 470:
            where &= canvas.labels != Label.LIVER
        canvas.paint(where, tube.tissue, tube.label)
        if tube.group == "heart":
            chamber = (distance < 0.62) & where & canvas.waves(7.0, -1.1, 3)
            canvas.paint(chamber, Tissue.HEART)
        elif tube.group == "mediastinum" and descending is not None:
            canvas.paint((descending < 1) & (canvas.z < 508), Tissue.ARTERY, Label.AORTA)


def _paint_lesions(canvas: _Canvas) -> None:
    for label, ball in canvas.torso.lesions:
        if label == Label.PLEURAL_EFFUSION:
            organ = Label.RIGHT_LUNG if ball.centre[0] < 0 else Label.LEFT_LUNG
            fluid = (canvas.labels == organ) & (
                canvas.v > ball.centre[1] + (canvas.z - 400) * 0.004
            )
            canvas.paint(fluid, Tissue.EFFUSION, label)
            continue
        shape = canvas.ball(ball)
        if shape is None:
            continue
        if label == Label.LIVER_LESION:
            canvas.paint(shape & (canvas.labels == Label.LIVER), Tissue.LIVER_LESION, label)
        elif label == Label.LUNG_TUMOUR:
            lung = (canvas.labels == Label.RIGHT_LUNG) | (canvas.labels == Label.LEFT_LUNG)
            canvas.paint(shape & lung, Tissue.LUNG_TUMOUR, label)
        else:
            free = (canvas.labels == Label.BACKGROUND) & (canvas.tissue == Tissue.FAT)
            kidney = (canvas.labels == Label.RIGHT_KIDNEY) | (canvas.labels == Label.LEFT_KIDNEY)
            if (shape & kidney).any():
                canvas.paint(shape & (free | kidney), Tissue.CYST, label)


def _paint_bones(canvas: _Canvas, wall: np.ndarray) -> None:
    z = canvas.z
    if z > 118:
        _paint_vertebra(canvas)
    if z < 155:
        _paint_pelvis(canvas)
    if z > 235:
        _paint_ribs(canvas, wall)


def _bone(
    canvas: _Canvas, distance: np.ndarray, label: Label | None = None, rim: float = 0.72
) -> None:
    canvas.paint(distance < 1, Tissue.CORTICAL_BONE, label or Label.BACKGROUND)
    canvas.paint(distance < rim, Tissue.MARROW)


def _paint_vertebra(canvas: _Canvas) -> None:
    v = float(np.interp(canvas.z, SPINE_Z_MM, SPINE_V))
    phase = 2 * np.pi * (canvas.z / VERTEBRA_MM) + canvas.torso.texture_phase[5]
    size = 1.0 if canvas.z < 330 else 1.0 - 0.25 * min(1.0, (canvas.z - 330) / 200)
    ru, rv = 0.165 * size, 0.175 * size
    body = canvas.ellipse((0, v), (ru, rv), 0, 2.4)
    arch = canvas.ellipse((0, v + 0.26 * size), (0.17 * size, 0.16 * size))
    if np.sin(phase) > -0.55:
        process = canvas.ellipse((0, v + 0.42 * size), (0.035, 0.15 * size))
        _bone(canvas, process, Label.SPINE, 0.4)
    if np.sin(phase) > 0.3:
        _bone(canvas, canvas.ellipse((0, v + 0.24 * size), (0.30 * size, 0.05)), Label.SPINE, 0.4)
    _bone(canvas, arch, Label.SPINE, 0.0)
    if np.sin(phase) < -0.75 and canvas.z < 460:
        canvas.paint(body < 1, Tissue.CARTILAGE, Label.SPINE)
    else:
        _bone(canvas, body, Label.SPINE, 0.84)
    canal = canvas.ellipse((0, v + 0.25 * size), (0.085 * size, 0.09 * size)) < 1
    canvas.paint(canal, Tissue.CORD, Label.BACKGROUND)


def _paint_pelvis(canvas: _Canvas) -> None:
    z = canvas.z
    sacrum_v = float(np.interp(z, (20, 60, 118, 155), (0.72, 0.80, 0.60, 0.48)))
    width = float(np.interp(z, (10, 30, 60, 118, 155), (0.03, 0.10, 0.22, 0.42, 0.40)))
    if 15 < z < 135:
        _bone(canvas, canvas.ellipse((0, sacrum_v), (width, 0.06 + 0.3 * width), 0, 2.4), None, 0.8)
    for side in (-1, 1):
        if z < 55:
            _bone(canvas, canvas.ellipse((side * 0.60, 0.02), (0.155, 0.225)), None, 0.75)
            _bone(canvas, canvas.ellipse((side * 0.42, 0.10), (0.06, 0.30), side * -12), None, 0.4)
            if z < 22:
                _bone(
                    canvas, canvas.ellipse((side * 0.2, -0.62), (0.2, 0.08), side * 20), None, 0.5
                )
        elif z < 205:
            centre = (
                np.interp(z, (55, 110, 205), (0.54, 0.58, 0.72)),
                np.interp(z, (55, 110, 205), (0.10, 0.22, 0.0)),
            )
            length = float(np.interp(z, (55, 110, 190, 205), (0.30, 0.52, 0.35, 0.1)))
            _bone(
                canvas,
                canvas.ellipse((side * centre[0], centre[1]), (0.05, length), side * -27),
                None,
                0.45,
            )


def _paint_ribs(canvas: _Canvas, wall: np.ndarray) -> None:
    torso, z = canvas.torso, canvas.z
    slope = 2 * np.pi * (z + 62.0 * -canvas.v_wall) / 27.0 + torso.rib_phase
    ring = (wall > 0.925) & (wall < 0.985)
    cage = np.sin(slope) > 0.15
    cage &= canvas.v_wall > -0.45 - (z - 330) * 0.004
    lowest = 255.0 + 70.0 * (canvas.v_wall < 0) * np.abs(canvas.v_wall)
    where = ring & cage & (z > lowest) & (np.abs(canvas.u_wall) > 0.16)
    canvas.paint(where, Tissue.CORTICAL_BONE, Label.BACKGROUND)
    canvas.paint(where & (wall > 0.94) & (wall < 0.968), Tissue.MARROW)
    cartilage = ring & (canvas.v_wall < -0.4) & (np.sin(slope) > -0.1) & (z > 290) & ~where
    canvas.paint(cartilage & (wall < 0.975), Tissue.CARTILAGE, Label.BACKGROUND)
    if z > 395:
        _bone(canvas, canvas.ellipse((0, -0.95), (0.15, 0.06), 0, 3.0), None, 0.5)
