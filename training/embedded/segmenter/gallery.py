# SPDX-License-Identifier: Apache-2.0
"""A picture of the best, middle and worst cross-sections of an evaluation, for people to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from medreasoner_infer.atomic import replacing
from medreasoner_infer.types import SliceImage, SlicePrompt
from medreasoner_training.embedded.required import required
from medreasoner_training.embedded.segmenter.measures import NO_BOX

COLUMNS = 6
ZOOM = 1.8


@dataclass(frozen=True)
class JudgedSection:
    """One cross-section: what was shown and asked, what is true, what was answered."""

    title: str
    image: SliceImage
    prompt: SlicePrompt
    truth: np.ndarray
    answer: np.ndarray
    dice: float


class Ranked(Protocol):
    """What can be ranked: a score and what is shown, of which a row shows one example."""

    @property
    def dice(self) -> float:
        """Dice coefficient, 0...1, by which sections are ranked."""
        ...

    @property
    def title(self) -> str:
        """Of the structure; a row shows one section of each."""
        ...


AnySection = TypeVar("AnySection", bound=Ranked)


def choose_sections(sections: Sequence[AnySection]) -> dict[str, list[AnySection]]:
    """The best, the middle and the worst sections by Dice, at most six of each.

    No row shows two sections of one title: the slices of one organ resemble each other.
    """
    ranked = sorted(sections, key=lambda section: section.dice, reverse=True)
    middle = len(ranked) / 2 - 0.5
    around = sorted(range(len(ranked)), key=lambda place: abs(place - middle))
    rows = {
        "best": _distinct(ranked),
        "median": _distinct([ranked[place] for place in around]),
        "worst": _distinct(ranked[::-1]),
    }
    return {
        name: sorted(row, key=lambda section: section.dice, reverse=True)
        for name, row in rows.items()
    }


def _distinct(sections: Sequence[AnySection]) -> list[AnySection]:
    """The first six of different titles."""
    first: dict[str, AnySection] = {}
    for section in sections:
        first.setdefault(section.title, section)
    return list(first.values())[:COLUMNS]


def write_gallery(sections: Sequence[JudgedSection], path: Path) -> None:
    """Draw the chosen sections, true outline green and answered outline orange; atomic PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.1 * COLUMNS, 7.2), facecolor="black", layout="constrained")
    axes = figure.subplots(3, COLUMNS, squeeze=False)
    for row, (rank, chosen) in zip(axes, choose_sections(sections).items(), strict=True):
        for axis in row:
            axis.set_axis_off()
        for axis, section in zip(row, chosen, strict=False):
            _draw(axis, section, rank)
    figure.suptitle("green: true outline, orange: answer, white: prompt", color="white", size=9)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=100, facecolor="black")


def _draw(axis, section: JudgedSection, rank: str) -> None:
    x1, y1, x2, y2 = required(section.prompt.bbox_xyxy_px, NO_BOX)
    half = ZOOM * max(x2 - x1, y2 - y1) / 2
    height, width = section.truth.shape
    extent = (0, width, height, 0)
    axis.imshow(section.image.pixels, cmap="gray", vmin=0, vmax=255, extent=extent)
    centers = (np.arange(width) + 0.5, np.arange(height) + 0.5)
    for mask, colour in ((section.truth, "lime"), (section.answer, "orange")):
        if mask.any():
            axis.contour(*centers, mask, levels=[0.5], colors=colour, linewidths=0.9)
    axis.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="white", linewidth=0.6)
    axis.plot(*zip(*section.prompt.points_xy_px, strict=True), "w+", markersize=4)
    axis.set_xlim((x1 + x2) / 2 - half, (x1 + x2) / 2 + half)
    axis.set_ylim((y1 + y2) / 2 + half, (y1 + y2) / 2 - half)
    title = section.title.replace(": ", "\n", 1)
    axis.set_title(f"{rank} {section.dice:.2f}, {title}", color="white", size=7)
