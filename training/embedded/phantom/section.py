# SPDX-License-Identifier: Apache-2.0
"""Axial sections of a torso phantom: tissue and label maps on any pixel grid."""

from __future__ import annotations

import numpy as np

from .abdomen import paint_bowel, paint_soft, paint_trunk, paint_vessels
from .bones import paint_bones
from .canvas import Canvas, Section, SliceGrid
from .chest import paint_chest
from .lesions import paint_lesions
from .torso import TorsoPhantom

__all__ = ["Section", "SliceGrid", "render_section"]


def render_section(torso: TorsoPhantom, z_mm: float, grid: SliceGrid) -> Section:
    """Cut the torso at height ``z_mm`` (body frame) on a pixel grid."""
    canvas = Canvas(torso, z_mm, grid)
    wall = paint_trunk(canvas)
    inside = wall < np.float32(0.9)
    paint_soft(canvas, inside)
    paint_bowel(canvas, inside)
    paint_vessels(canvas, inside)
    if canvas.z > 300:
        paint_chest(canvas, wall)
    paint_lesions(canvas)
    paint_bones(canvas, wall)
    return Section(canvas.tissue, canvas.labels)
