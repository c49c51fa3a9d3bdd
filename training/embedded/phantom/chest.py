# SPDX-License-Identifier: Apache-2.0
"""Painting of the chest: diaphragm, lungs, mediastinum, heart."""

from __future__ import annotations

import numpy as np

from .anatomy import ARCH_Z_MM, SPINE_V, SPINE_Z_MM, Label, average_anatomy
from .canvas import Canvas
from .tissues import Tissue


def _diaphragm_z(canvas: Canvas) -> np.ndarray:
    """Height of the diaphragm above each pixel, in mm of the average anatomy."""
    right, left = canvas.torso.dome_z_mm
    side = np.where(canvas.u < 0, np.float32(-0.46), np.float32(0.46))
    dome = np.where(canvas.u < 0, np.float32(right), np.float32(left))
    du, dv = (canvas.u - side) / np.float32(0.5), (canvas.v + np.float32(0.1)) / np.float32(0.9)
    du = np.where(np.abs(canvas.u) < 0.46, np.float32(0.5) * du, du)
    back = np.where(canvas.v > -0.1, np.float32(85), np.float32(35))
    return dome - back * dv * dv - np.float32(48) * du * du


def paint_chest(canvas: Canvas, wall: np.ndarray) -> None:
    """Paint lungs, mediastinum and heart, which lie above the diaphragm.

    Args:
        canvas: of the section.
        wall: (H, W) superelliptic norm, 1 on the muscular wall.
    """
    above = canvas.z > _diaphragm_z(canvas)
    _paint_lungs(canvas, wall, above)
    anatomy = average_anatomy()
    descending = canvas.tube(anatomy.descending_aorta)
    for tube in anatomy.chest:
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
            canvas.paint((descending < 1) & (canvas.z < ARCH_Z_MM), Tissue.ARTERY, Label.AORTA)


def _paint_lungs(canvas: Canvas, wall: np.ndarray, above: np.ndarray) -> None:
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
