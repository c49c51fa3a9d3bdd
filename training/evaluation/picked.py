# SPDX-License-Identifier: Apache-2.0
"""The best, median and worst answers of a run, and their pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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

Rank = Literal["best", "median", "worst"]
PER_RANK = 3
TRUE_COLOUR, ANSWER_COLOUR = "#0d9488", "#d97706"
_PANEL_INCHES = 3.4
_DPI = 100


@dataclass(frozen=True)
class Picked:
    """A prediction at its place in the run."""

    rank: Rank
    index: int
    prediction: Prediction


@dataclass(frozen=True)
class Pictured:
    """A prediction with its picture, a PNG as base64: the truth on the left, the answer right."""

    rank: Rank
    prediction: Prediction
    png_base64: str


def picked(predictions: Sequence[Prediction]) -> tuple[Picked, ...]:
    """Which answers are shown: by Dice, and of equal ones those with a box first.

    Answers without a box all have 0; a wrong box shows more of what goes wrong.
    """
    scored = [
        (each.dice, each.outcome != "present", index)
        for index, each in enumerate(predictions)
        if each.target_present and each.dice is not None
    ]
    rising = [index for *_, index in sorted(scored)]
    falling = [index for *_, index in sorted(scored, key=lambda s: (-s[0], *s[1:]))]
    middle = max(0, (len(rising) - PER_RANK) // 2)
    ranks: tuple[tuple[Rank, list[int]], ...] = (
        ("best", falling[:PER_RANK]),
        ("median", rising[middle : middle + PER_RANK]),
        ("worst", rising[:PER_RANK]),
    )
    return tuple(Picked(rank, index, predictions[index]) for rank, at in ranks for index in at)


def pictured(
    found: Sequence[Picked],
    cases: Callable[[Sequence[int]], Iterator[Case]],
    segmenter: Segmenter,
) -> tuple[Pictured, ...]:
    """Draw what was picked; its masks are made again.

    Args:
        found: of :func:`picked`.
        cases: gives the cases at some places of the run, in rising order.
        segmenter: of the run.
    """
    places = sorted({each.index for each in found})
    drawn = {}
    for index, case in zip(places, cases(places), strict=True):
        prediction = next(each.prediction for each in found if each.index == index)
        drawn[index] = _picture(case, prediction, segmenter)
    return tuple(Pictured(each.rank, each.prediction, drawn[each.index]) for each in found)


def _picture(case: Case, prediction: Prediction, segmenter: Segmenter) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((2 * _PANEL_INCHES, _PANEL_INCHES), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    truth = case.truth
    if truth is not None:
        _draw(left, case, case.mask, truth.bbox_xyxy_px, truth.points_xy_px, TRUE_COLOUR)
    points = [p for p in (prediction.point_1, prediction.point_2) if p is not None]
    mask = _answer_mask(case, prediction, segmenter)
    _draw(right, case, mask, prediction.bbox, points, ANSWER_COLOUR)
    left.set_title("truth", fontsize=9)
    title = "answer" if prediction.outcome == "present" else prediction.outcome.replace("_", " ")
    right.set_title(drawable(title), fontsize=9)
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


def _draw(
    axes: Axes,
    case: Case,
    mask: NDArray[np.bool_] | None,
    box: XYXY | None,
    points: Sequence[XY],
    colour: str,
) -> None:
    """The slice, so placed that the axes' coordinates are slice px, and what lies on it."""
    from matplotlib.patches import Rectangle

    height, width = case.shown.mapping.shape_hw
    pixels, grey = case.shown.image.pixels, case.shown.image.pixels.ndim == 2
    axes.imshow(
        pixels, cmap="gray" if grey else None, vmin=0, vmax=255, extent=(0, width, height, 0)
    )
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    if mask is not None and mask.any():
        padded = np.pad(mask.astype(np.float32), 1)
        ys, xs = (np.arange(length) - 0.5 for length in padded.shape)
        axes.contourf(xs, ys, padded, levels=[0.5, 1.5], colors=[colour], alpha=0.3)
        axes.contour(xs, ys, padded, levels=[0.5], colors=[colour], linewidths=1.4)
    if box is not None:
        x1, y1, x2, y2 = box
        axes.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.4)
        )
    for x, y in points:
        axes.plot([x], [y], "o", color=colour, markeredgecolor="black", markersize=6)
