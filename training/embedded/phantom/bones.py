# SPDX-License-Identifier: Apache-2.0
"""Painting of the spine, the pelvis and the chest wall's bones."""

from __future__ import annotations

import numpy as np

from .anatomy import SPINE_V, SPINE_Z_MM, VERTEBRA_MM, Label
from .canvas import Canvas
from .tissues import Tissue


def paint_bones(canvas: Canvas, wall: np.ndarray) -> None:
    """Paint vertebra, pelvis and ribs, which cover whatever was there."""
    z = canvas.z
    if z > 118:
        _paint_vertebra(canvas)
    if z < 155:
        _paint_pelvis(canvas)
    if z > 235:
        _paint_ribs(canvas, wall)


def _bone(
    canvas: Canvas, distance: np.ndarray, label: Label | None = None, rim: float = 0.72
) -> None:
    canvas.paint(distance < 1, Tissue.CORTICAL_BONE, label or Label.BACKGROUND)
    canvas.paint(distance < rim, Tissue.MARROW)


def _paint_vertebra(canvas: Canvas) -> None:
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


def _paint_pelvis(canvas: Canvas) -> None:
    z = canvas.z
    sacrum_v = float(np.interp(z, (20, 60, 118, 155), (0.72, 0.80, 0.60, 0.48)))
    width = float(np.interp(z, (10, 30, 60, 118, 155), (0.03, 0.10, 0.22, 0.42, 0.40)))
    if 15 < z < 135:
        _bone(canvas, canvas.ellipse((0, sacrum_v), (width, 0.06 + 0.3 * width), 0, 2.4), None, 0.8)
    for side in (-1, 1):
        if z < 55:
            _paint_hip(canvas, side)
        elif z < 205:
            u = side * float(np.interp(z, (55, 110, 205), (0.54, 0.58, 0.72)))
            v = float(np.interp(z, (55, 110, 205), (0.10, 0.22, 0.0)))
            length = float(np.interp(z, (55, 110, 190, 205), (0.30, 0.52, 0.35, 0.1)))
            _bone(canvas, canvas.ellipse((u, v), (0.05, length), side * -27), None, 0.45)


def _paint_hip(canvas: Canvas, side: int) -> None:
    """Femoral head, ischium and, lowest, the pubis of the patient's right (-1) or left (1)."""
    _bone(canvas, canvas.ellipse((side * 0.60, 0.02), (0.155, 0.225)), None, 0.75)
    _bone(canvas, canvas.ellipse((side * 0.42, 0.10), (0.06, 0.30), side * -12), None, 0.4)
    if canvas.z < 22:
        _bone(canvas, canvas.ellipse((side * 0.2, -0.62), (0.2, 0.08), side * 20), None, 0.5)


def _paint_ribs(canvas: Canvas, wall: np.ndarray) -> None:
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
