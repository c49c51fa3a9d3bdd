# SPDX-License-Identifier: Apache-2.0
"""Painting of findings into their organs."""

from __future__ import annotations

from .anatomy import Label
from .canvas import Canvas
from .tissues import Tissue


def paint_lesions(canvas: Canvas) -> None:
    """Paint each finding where it lies in its organ."""
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
