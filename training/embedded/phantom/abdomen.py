# SPDX-License-Identifier: Apache-2.0
"""Painting of the trunk's wall and of the abdomen."""

from __future__ import annotations

import numpy as np

from ..required import required
from .anatomy import ARCH_Z_MM, Label, Tube, average_anatomy
from .canvas import Canvas, tube_section
from .tissues import Tissue

SKIN_MM = 2.2


def paint_trunk(canvas: Canvas) -> np.ndarray:
    """Paint outline, fat, skin and wall; returns the wall's superelliptic norm, (H, W)."""
    flat = _flattened_back(canvas)
    wall = _wall_norm(canvas, flat)
    outer = 1 + _relative_fat(canvas, flat)
    canvas.paint(wall < outer, Tissue.SKIN)
    canvas.paint(wall < outer - SKIN_MM / canvas.depth, Tissue.FAT)
    canvas.paint(wall < 1, Tissue.MUSCLE)
    cavity = 0.92 if canvas.z > 150 else 0.86
    canvas.paint((wall < cavity) & ((canvas.v < 0.62) | (canvas.z < 300)), Tissue.FAT)
    if canvas.z < 130:
        pelvic = (np.abs(canvas.u) > 0.62 - 0.12 * canvas.v) | (canvas.v > 0.62)
        canvas.paint((wall < 0.97) & pelvic & ~canvas.waves(16.0, 1.9), Tissue.MUSCLE)
    else:
        canvas.paint(canvas.waves(26.0, 2.35) & (wall < cavity) & (canvas.v < 0.4), Tissue.SOFT)
    return wall


def _flattened_back(canvas: Canvas) -> np.ndarray:
    """|v|, stretched behind the middle: the back is flatter than the belly."""
    depth = np.abs(canvas.v_wall)
    return np.where(canvas.v_wall > 0, depth * np.float32(1.06), depth)


def _wall_norm(canvas: Canvas, flat: np.ndarray) -> np.ndarray:
    """Superelliptic norm, 1 on the wall; half of the warp makes the outline irregular."""
    exponent = np.float32(canvas.torso.wall_exponent)
    straight = (np.abs(canvas.u_wall) ** exponent + flat**exponent) ** (1 / exponent)
    warped = (np.abs(canvas.u) ** exponent + np.abs(canvas.v) ** exponent) ** (1 / exponent)
    return 0.5 * (straight + warped)


def _relative_fat(canvas: Canvas, flat: np.ndarray) -> np.ndarray:
    """Thickness of the subcutaneous fat in units of the wall's norm; more below the waist."""
    front, side, back = canvas.torso.fat_mm
    share = flat / (np.abs(canvas.u_wall) + flat + 1e-6)
    thickness = share * np.where(canvas.v_wall > 0, back, front) + (1 - share) * side
    waist = 0.9 + 0.25 * (canvas.z < 200)
    return thickness * waist / (share * canvas.depth + (1 - share) * canvas.width)


def paint_soft(canvas: Canvas, inside: np.ndarray) -> None:
    """Paint muscles, large bowel and the organs of the abdomen."""
    anatomy = average_anatomy()
    for tube in anatomy.colon + anatomy.soft:
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


def _paint_colon(canvas: Canvas, distance: np.ndarray, where: np.ndarray, tube: Tube) -> None:
    canvas.paint(where, Tissue.SOFT)
    lumen = where & (distance < 0.78)
    canvas.paint(lumen, Tissue.FAECES)
    offset = len(tube.group) % 4
    canvas.paint(lumen & canvas.waves(38.0, 0.9, offset), Tissue.GAS)
    level = canvas.torso.texture_phase[offset] / np.pi - 1.0
    section = tube_section(tube, canvas.torso.variations[tube.group], canvas.z)
    _, centre_v, *_ = required(section, f"The {tube.group} is not at this height.")
    canvas.paint(lumen & (canvas.v < centre_v + 0.12 * level), Tissue.GAS)


def _paint_renal_sinus(
    canvas: Canvas, tube: Tube, kidney: np.ndarray, distance: np.ndarray
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


def paint_bowel(canvas: Canvas, inside: np.ndarray) -> None:
    """Paint small-bowel loops into the free fat."""
    free = (canvas.labels == Label.BACKGROUND) & inside & (canvas.tissue == Tissue.FAT)
    for ball in canvas.torso.bowel:
        loop = canvas.ball(ball)
        if loop is None:
            continue
        where = loop & free
        canvas.paint(where, Tissue.BOWEL_CONTENT)
        if ball.filling:
            canvas.paint(where & (canvas.v < ball.centre[1] - 0.02), Tissue.GAS)


def paint_vessels(canvas: Canvas, inside: np.ndarray) -> None:
    """Paint the great vessels; smaller ones give way to organs."""
    for tube in average_anatomy().vessel:
        distance = canvas.tube(tube)
        if distance is None or (tube.label == Label.AORTA and canvas.z > ARCH_Z_MM):
            continue
        where = (distance < 1) & inside
        if tube.label == Label.BACKGROUND:
            where &= canvas.labels == Label.BACKGROUND
        canvas.paint(where, tube.tissue, tube.label)
