# SPDX-License-Identifier: Apache-2.0
"""Answers drawn on the truth, and the curves of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.errors import AnswerError
from medreasoner_infer.types import XY, XYXY, ReasonerAnswer
from medreasoner_training.evaluation.drawing import (
    ANSWER_COLOUR,
    TRUE_COLOUR,
    Marks,
    Panel,
    as_png,
    new_figure,
    picture,
)
from medreasoner_training.rewards import GroundTruth, read_completion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL_INCHES = 2.3
_CURVES_INCHES = (10.5, 2.6)
#: TRL's names of what is drawn of its logs.
REWARD, NO_VARIANCE, CUT_OFF = "reward", "frac_reward_zero_std", "completions/clipped_ratio"
Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Said:
    """What an answer says: its box and points in reasoner px, or why there are none, in words."""

    words: str
    bbox_xyxy_px: XYXY | None = None
    points_xy_px: tuple[XY, ...] = ()

    @classmethod
    def by_answer(cls, answer: ReasonerAnswer | AnswerError) -> Said:
        """As it is served."""
        if isinstance(answer, AnswerError):
            return cls("cannot be read")
        found = answer.grounding
        if found.bbox_xyxy_px is None:
            return cls(found.outcome.replace("_", " "))
        return cls("a box", found.bbox_xyxy_px, tuple(found.points_xy_px or ()))

    @classmethod
    def by_completion(cls, completion: str) -> Said:
        """As it is rewarded; its numbers are in reasoner px."""
        read = read_completion(completion)
        if read.says_absent:
            return cls("absent")
        if read.says_not_understood:
            return cls("not understood")
        if read.bbox_xyxy_px is None:
            return cls("cannot be read", None, tuple(read.points_xy_px or ()))
        return cls("a box", read.bbox_xyxy_px, tuple(read.points_xy_px or ()))

    def told(self, truth: GroundTruth | None) -> str:
        """The IoU of the box where there is a true one, else the words."""
        if self.bbox_xyxy_px is None or truth is None:
            return self.words
        return f"box IoU {box_iou(self.bbox_xyxy_px, truth.bbox_xyxy_px):.2f}"


def draw_truth(pixels: np.ndarray, truth: GroundTruth | None) -> str:
    """The truth on its image, uint8 (S, S, 3), as PNG in base64."""
    return _drawn(pixels, "truth" if truth is not None else "truth: absent", _true_marks(truth))


def draw_answer(pixels: np.ndarray, truth: GroundTruth | None, said: Said) -> str:
    """An answer on the truth, likewise."""
    answer = Marks(ANSWER_COLOUR, None, said.bbox_xyxy_px, said.points_xy_px)
    return _drawn(pixels, said.told(truth), (*_true_marks(truth), answer))


def _true_marks(truth: GroundTruth | None) -> tuple[Marks, ...]:
    if truth is None:
        return ()
    return (Marks(TRUE_COLOUR, None, truth.bbox_xyxy_px, truth.points_xy_px),)


def _drawn(pixels: np.ndarray, title: str, marks: tuple[Marks, ...]) -> str:
    return picture(pixels, [Panel(title, marks)], _PANEL_INCHES)


def points_of(history: Sequence[Mapping[str, Any]], name: str, first_step: int) -> Points:
    """Step and value of a figure in a trainer's log."""
    found = [(line["step"], line[name]) for line in history if name in line]
    return [(first_step + int(step), float(value)) for step, value in found]


def draw_curves(curves: Mapping[str, Points], box_ious: Points) -> str:
    """Reward, held-out box IoU and the two shares over the steps, as PNG in base64.

    Args:
        curves: :data:`REWARD`, :data:`NO_VARIANCE` and :data:`CUT_OFF` by these names.
        box_ious: of the evaluations.
    """
    figure = new_figure(*_CURVES_INCHES)
    rewards, ious, shares = figure.subplots(1, 3)
    _line(rewards, curves[REWARD], "mean reward", ANSWER_COLOUR)
    _line(ious, box_ious, "held-out box IoU", TRUE_COLOUR, "o-")
    _line(shares, curves[NO_VARIANCE], "groups without variance", "#6b21a8")
    _line(shares, curves[CUT_OFF], "rollouts cut off", "#b91c1c")
    for axes in (ious, shares):
        axes.set_ylim(0, 1)
    for axes in (rewards, ious, shares):
        axes.set_xlabel("step")
        axes.locator_params(axis="x", integer=True)
        axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return as_png(figure)


def _line(axes: Axes, points: Points, words: str, colour: str, style: str = "-") -> None:
    steps, values = [step for step, _ in points], [value for _, value in points]
    axes.plot(steps, values, style, color=colour, linewidth=1.2, markersize=4, label=words)
