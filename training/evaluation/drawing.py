# SPDX-License-Identifier: Apache-2.0
"""Truth and answers side by side on the image of a question, as PNG in base64."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.imaging.overlay_text import drawable
from medreasoner_infer.segmenters.base import Segmenter
from medreasoner_infer.types import XY, XYXY, SlicePrompt
from medreasoner_training.evaluation.measuring import Masks
from medreasoner_training.evaluation.pictures import Case
from medreasoner_training.evaluation.predictions import Prediction
from medreasoner_training.evaluation.prompts import prompt_on_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUE_COLOUR, ANSWER_COLOUR = "#0d9488", "#d97706"
_PANEL_INCHES = 3.4
_DPI = 100


@dataclass(frozen=True, eq=False)
class Marks:
    """What lies on the image in one colour, in pixels of the image; the mask is bool (H, W)."""

    colour: str
    mask: NDArray[np.bool_] | None = None
    bbox_xyxy_px: XYXY | None = None
    points_xy_px: tuple[XY, ...] = ()


@dataclass(frozen=True, eq=False)
class Panel:
    """The image once, under a title; later marks lie on earlier ones."""

    title: str
    marks: tuple[Marks, ...] = ()


def true_panel(case: Case) -> Panel:
    """The truth of a case; nothing where its target is absent."""
    if case.truth is None:
        return Panel("truth: absent")
    box, points = case.truth.bbox_xyxy_px, case.truth.points_xy_px
    return Panel("truth", (Marks(TRUE_COLOUR, case.mask, box, points),))


def answer_panel(
    case: Case, prediction: Prediction, segmenter: Segmenter, title: str = "answer"
) -> Panel:
    """An answer, whose mask is made again; one without a box is told by its outcome."""
    outcome = prediction.outcome
    if outcome != "present":
        words = outcome.replace("_", " ")
        title = words if title == "answer" else f"{title}: {words}"
    points = tuple(p for p in (prediction.point_1, prediction.point_2) if p is not None)
    mask = _answer_mask(case, prediction, segmenter)
    return Panel(title, (Marks(ANSWER_COLOUR, mask, prediction.bbox, points),))


def picture(
    pixels: NDArray[np.uint8], panels: Sequence[Panel], panel_inches: float = _PANEL_INCHES
) -> str:
    """An image once for each panel, from left to right.

    Args:
        pixels: uint8 (H, W) or (H, W, 3).
        panels: what lies on it.
        panel_inches: side of a panel, at 100 pixels an inch.
    """
    figure = new_figure(len(panels) * panel_inches, panel_inches)
    grid = figure.subplots(1, len(panels), squeeze=False)
    for axes, panel in zip(grid[0], panels, strict=True):
        _draw(axes, pixels, panel)
    return as_png(figure)


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """A figure of 100 pixels an inch that no window shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width_inches, height_inches), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Figure) -> str:
    """The PNG of a figure in base64."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _answer_mask(
    case: Case, prediction: Prediction, segmenter: Segmenter
) -> NDArray[np.bool_] | None:
    box, first, second = prediction.bbox, prediction.point_1, prediction.point_2
    if box is None or first is None or second is None:
        return None
    (height, width), (x1, y1, x2, y2) = case.shown.mapping.shape_hw, box
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return None
    inside = [(x, y) for x, y in (first, second) if 0 <= x <= width and 0 <= y <= height]
    clipped = prompt_on_image(box, (first, second), (height, width)).bbox_xyxy_px
    prompt = SlicePrompt(clipped, tuple(inside), (1,) * len(inside))
    return Masks(case, segmenter).of(prompt, "both")


def _draw(axes: Axes, pixels: NDArray[np.uint8], panel: Panel) -> None:
    """The image, so placed that the axes' coordinates are its pixels, and what lies on it."""
    height, width = pixels.shape[:2]
    axes.imshow(
        pixels,
        cmap="gray" if pixels.ndim == 2 else None,
        vmin=0,
        vmax=255,
        extent=(0, width, height, 0),
    )
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    for marks in panel.marks:
        _mark(axes, marks)
    axes.set_title(drawable(panel.title), fontsize=9)


def _mark(axes: Axes, marks: Marks) -> None:
    from matplotlib.patches import Rectangle

    mask, colour = marks.mask, marks.colour
    if mask is not None and mask.any():
        padded = np.pad(mask.astype(np.float32), 1)
        ys, xs = (np.arange(length) - 0.5 for length in padded.shape)
        axes.contourf(xs, ys, padded, levels=[0.5, 1.5], colors=[colour], alpha=0.3)
        axes.contour(xs, ys, padded, levels=[0.5], colors=[colour], linewidths=1.4)
    if marks.bbox_xyxy_px is not None:
        x1, y1, x2, y2 = marks.bbox_xyxy_px
        axes.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.4)
        )
    for x, y in marks.points_xy_px:
        axes.plot(
            [x],
            [y],
            "o",
            color=colour,
            markeredgecolor="black",
            markersize=4.5,
            markeredgewidth=0.6,
        )
