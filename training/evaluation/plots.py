# SPDX-License-Identifier: Apache-2.0
"""Plots of a run for the page, as PNG in base64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_training.evaluation.drawing import ANSWER_COLOUR, TRUE_COLOUR, as_png, new_figure
from medreasoner_training.evaluation.predictions import Prediction
from medreasoner_training.evaluation.published import PERCENT
from medreasoner_training.evaluation.summary import GroupSummary, Measure, values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BARS: tuple[tuple[Measure, str, str], ...] = (
    ("dice", ANSWER_COLOUR, "from the reasoner's prompts"),
    ("dice_true_prompts", TRUE_COLOUR, "from the true prompts"),
)
_MOST_GROUPS = 30


def plot_groups(groups: Sequence[GroupSummary]) -> str:
    """Mean Dice of each group with its interval, beside the segmenter's with true prompts."""
    shown = list(groups[:_MOST_GROUPS])
    figure = new_figure(7.0, 1.0 + 0.42 * len(shown))
    axes = figure.subplots()
    for number, (measure, colour, words) in enumerate(_BARS):
        _bars(axes, shown, measure, colour, words, (number - 0.5) * 0.4)
    axes.set_yticks(range(len(shown)), [f"{each.name} ({each.n})" for each in shown])
    axes.invert_yaxis()
    axes.set(xlim=(0, PERCENT), xlabel="mean Dice, %")
    axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return as_png(figure)


def _bars(
    axes: Axes,
    groups: Sequence[GroupSummary],
    measure: Measure,
    colour: str,
    words: str,
    offset: float,
) -> None:
    found = [(at, each.values[measure]) for at, each in enumerate(groups) if measure in each.values]
    places = [at + offset for at, _ in found]
    means = [PERCENT * each.mean for _, each in found]
    axes.barh(places, means, height=0.38, color=colour, label=words)
    for place, (_, each) in zip(places, found, strict=True):
        if each.low is not None and each.high is not None:
            bounds = [PERCENT * each.low, PERCENT * each.high]
            axes.plot(bounds, [place, place], color="black", linewidth=1)


def plot_box_and_mask(predictions: Sequence[Prediction]) -> str:
    """Dice of each answer's mask over the IoU of its box."""
    found = [each for each in predictions if each.target_present and each.bbox is not None]
    figure = new_figure(4.2, 4.0)
    axes = figure.subplots()
    box, mask = (PERCENT * values_of(found, measure) for measure in ("box_iou", "dice"))
    known = ~(np.isnan(box) | np.isnan(mask))
    axes.scatter(box[known], mask[known], s=14, alpha=0.6, color=ANSWER_COLOUR)
    axes.set(xlim=(-2, 102), ylim=(-2, 102), xlabel="box IoU, %", ylabel="Dice of the mask, %")
    return as_png(figure)
