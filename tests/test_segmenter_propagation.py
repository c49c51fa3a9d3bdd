# SPDX-License-Identifier: Apache-2.0
"""When a target ends: the stop rule and the walk, with a tracker that answers from a script."""

from __future__ import annotations

import numpy as np
import pytest

from medreasoner_infer.segmenters.propagation import (
    GreyLevel,
    TrackedMask,
    propagate_both_ways,
    target_ended,
)
from medreasoner_infer.segmenters.settings import StopRule
from medreasoner_infer.types import SliceImage, SliceMask, SlicePrompt

RULE = StopRule(
    min_presence=0.0,
    min_area_ratio=0.1,
    max_area_ratio=3.0,
    small_area_px=30,
    min_overlap=0.2,
    max_grey_change=2.0,
    min_grey_spread=8.0,
)
PROMPT = SlicePrompt((0.0, 0.0, 10.0, 10.0))


def square(side: int, corner: int = 0) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[corner : corner + side, corner : corner + side] = True
    return mask


def tracked(mask: np.ndarray, presence: float = 5.0) -> TrackedMask:
    return TrackedMask(SliceMask(mask, 0.9), presence)


def grey(value: int) -> SliceImage:
    return SliceImage(np.full((64, 64), value, np.uint8), (1.0, 1.0), str(value))


@pytest.mark.parametrize(
    ("last", "answer", "ended", "why"),
    [
        (square(20), tracked(square(20)), False, "unchanged"),
        (square(20), tracked(square(20), -0.1), True, "presence below the bound"),
        (square(20), tracked(square(0)), True, "empty"),
        (square(20), tracked(square(34)), False, "area x 2.9"),
        (square(20), tracked(square(36)), True, "area x 3.2: a leak"),
        (square(20), tracked(square(7)), False, "area x 0.12"),
        (square(20), tracked(square(6)), True, "area x 0.09: a collapse"),
        (square(1), tracked(square(9)), False, "81 px count as x 2.7 of the smallest 30"),
        (square(1), tracked(square(10)), True, "100 px are x 3.3 of the smallest 30"),
        (square(20), tracked(square(20, 11)), False, "81 of 400 px overlap"),
        (square(20), tracked(square(20, 12)), True, "64 of 400 px overlap"),
    ],
)
def test_bounds_of_the_stop_rule(last, answer, ended, why):
    assert target_ended(last, answer, RULE) is ended, why


@pytest.mark.parametrize(
    ("spread", "median", "left"),
    [(0.0, 116.0, False), (0.0, 117.0, True), (10.0, 119.0, False), (10.0, 79.0, True)],
)
def test_grey_may_move_by_two_spreads_of_at_least_eight_levels(spread, median, left):
    assert GreyLevel(100.0, spread).left_by(GreyLevel(median, 0.0), RULE) is left


def test_grey_level_is_the_median_under_the_mask():
    image = grey(50)
    image.pixels[:20, :20] = 170
    level = GreyLevel.of(image, square(20))
    assert (level.median, level.spread) == (170.0, 0.0)


def test_spread_of_normal_grey_is_its_standard_deviation():
    noise = np.random.default_rng(0).normal(128, 12, (64, 64)).round().astype(np.uint8)
    level = GreyLevel.of(SliceImage(noise, (1.0, 1.0), "noise"), np.ones((64, 64), bool))
    assert level.spread == pytest.approx(12, abs=0.8)


def test_colour_counts_by_its_mean():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[...] = (30, 60, 90)
    assert GreyLevel.of(SliceImage(pixels, (1.0, 1.0), "colour"), square(9)).median == 60


class Script:
    """A tracker that has a mask for some slices and notes what it was asked."""

    def __init__(self, present: range) -> None:
        self.present = present
        self.calls: list[str] = []

    def begin(self, index, image, prompt, mask) -> None:
        self.calls.append(f"begin {index}")

    def turn(self) -> None:
        self.calls.append("turn")

    def step(self, index, image) -> TrackedMask | None:
        self.calls.append(f"step {index}")
        return tracked(square(20)) if index in self.present else None


def walk(script: Script, frames: list[SliceImage], start: int, first: np.ndarray):
    return [
        index
        for index, _ in propagate_both_ways(
            lambda image, prompt: SliceMask(first, 0.9), script, RULE, frames, start, PROMPT
        )
    ]


def test_each_direction_starts_anew_and_ends_by_itself():
    script = Script(range(3, 7))
    assert walk(script, [grey(100)] * 12, 5, square(20)) == [5, 6, 4, 3]
    assert script.calls == [
        "begin 5", "turn", "step 6", "step 7", "turn", "step 4", "step 3", "step 2",
    ]  # fmt: skip


def test_a_slice_that_looks_different_ends_the_target():
    frames = [grey(100)] * 7 + [grey(180)] + [grey(100)] * 4
    assert walk(Script(range(12)), frames, 5, square(20)) == [5, 6, 4, 3, 2, 1, 0]


def test_an_empty_first_mask_leads_nowhere():
    script = Script(range(12))
    assert walk(script, [grey(100)] * 12, 5, square(0)) == [5]
    assert script.calls == []
