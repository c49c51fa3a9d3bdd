# SPDX-License-Identifier: Apache-2.0
"""When a target has ended: each bound of the stop rule, and synthetic volumes with known ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from medreasoner_infer.segmenters.propagation import propagate_both_ways
from medreasoner_infer.segmenters.settings import StopRule
from medreasoner_infer.segmenters.stopping import (
    GreyValues,
    StoppingCriterion,
    StopReason,
    TrackedMask,
)
from medreasoner_infer.types import SliceImage, SliceMask, SlicePrompt

RULE = StopRule(
    min_presence=0.0,
    min_area_ratio=0.1,
    max_area_ratio=3.0,
    small_area_px=30,
    min_overlap=0.2,
    max_grey_change=1.0,
    min_grey_spread=8.0,
    max_grey_step=0.2,
    max_quality_loss=0.1,
)
NO_BOUND_ON_GREY = replace(RULE, max_grey_change=100.0, max_grey_step=1.0)


def square(side: int, corner: int = 0) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[corner : corner + side, corner : corner + side] = True
    return mask


def tracked(mask: np.ndarray, presence: float = 5.0, iou: float = 0.9) -> TrackedMask:
    return TrackedMask(SliceMask(mask, iou), presence)


def grey(value: int) -> SliceImage:
    return SliceImage(np.full((64, 64), value, np.uint8), (1.0, 1.0), str(value))


def noisy(mean: float, deviation: float, seed: int) -> SliceImage:
    noise = np.random.default_rng(seed).normal(mean, deviation, (64, 64))
    return SliceImage(np.clip(noise, 0, 255).round().astype(np.uint8), (1.0, 1.0), f"noise/{seed}")


def watch(
    rule: StopRule, image: SliceImage, mask: np.ndarray, iou: float = 0.9
) -> StoppingCriterion:
    return StoppingCriterion(rule, SliceMask(mask, iou), GreyValues.of(image, mask))


@pytest.mark.parametrize(
    ("last", "answer", "ending", "why"),
    [
        (square(20), tracked(square(20)), None, "unchanged"),
        (square(20), tracked(square(20), -0.1), StopReason.PRESENCE, "presence below the bound"),
        (square(20), tracked(square(0)), StopReason.EMPTY, "empty"),
        (square(20), tracked(square(34)), None, "area x 2.9"),
        (square(20), tracked(square(36)), StopReason.AREA, "area x 3.2: a leak"),
        (square(20), tracked(square(7)), None, "area x 0.12"),
        (square(20), tracked(square(6)), StopReason.AREA, "area x 0.09: a collapse"),
        (square(1), tracked(square(9)), None, "81 px count as x 2.7 of the smallest 30"),
        (square(1), tracked(square(10)), StopReason.AREA, "100 px are x 3.3 of the smallest 30"),
        (square(20), tracked(square(20, 11)), None, "81 of 400 px overlap"),
        (square(20), tracked(square(20, 12)), StopReason.OVERLAP, "64 of 400 px overlap"),
    ],
)
def test_bounds_on_shape_and_presence(last, answer, ending, why):
    assert watch(RULE, grey(100), last).judge(grey(100), answer) is ending, why


def test_what_just_reaches_a_bound_goes_on():
    line = np.zeros((64, 64), bool)
    last = line.copy()
    last[:20, :20] = True  # 400 px
    tenth, triple, fifth = line.copy(), line.copy(), line.copy()
    tenth[:2, :20] = True  # 40 px
    triple[:20, :60] = True  # 1200 px
    fifth[:20, 16:36] = True  # 400 px, of which 80 lie on the last mask
    for mask, presence in ((tenth, 5.0), (triple, 5.0), (fifth, 5.0), (last, 0.0)):
        answer = tracked(mask, presence)
        assert watch(RULE, grey(100), last).judge(grey(100), answer) is None


def test_a_step_that_just_reaches_its_bound_goes_on():
    brighter = grey(100)
    brighter.pixels[:5, :20] = 140
    # A quarter of 400 px has changed; of the distance 0.25 chance explains 1.36 x sqrt(2 / 400).
    reached = replace(RULE, max_grey_change=100.0, max_grey_step=0.25 - 1.36 * np.sqrt(2 / 400))
    below = replace(reached, max_grey_step=reached.max_grey_step - 1e-9)
    assert (
        watch(below, grey(100), square(20)).judge(brighter, tracked(square(20))) is StopReason.STEP
    )
    assert watch(reached, grey(100), square(20)).judge(brighter, tracked(square(20))) is None


def test_a_better_quality_makes_up_for_no_change_of_grey():
    # The median moves by 9 of 8 levels; the predicted quality rises from 0.5 to 1.
    rule = replace(RULE, max_grey_step=1.0)
    seen = watch(rule, grey(100), square(20), iou=0.5)
    assert seen.judge(grey(100), tracked(square(20), iou=0.5)) is None
    assert seen.judge(grey(109), tracked(square(20), iou=1.0)) is StopReason.DOUBT


def test_a_predicted_quality_of_nothing_ends_the_target():
    seen = watch(NO_BOUND_ON_GREY, grey(100), square(20), iou=0.0)
    assert seen.judge(grey(100), tracked(square(20), iou=0.0)) is None
    assert seen.judge(grey(100), tracked(square(20), iou=0.0)) is StopReason.DOUBT


class TestGreyValues:
    def test_median_and_spread_are_those_under_the_mask(self):
        image = grey(50)
        image.pixels[:20, :20] = 170
        values = GreyValues.of(image, square(20))
        assert (values.median, values.spread) == (170.0, 0.0)

    def test_spread_is_the_distance_of_the_quartiles_over_that_of_a_normal_distribution(self):
        # The quartiles of 0, 1, ..., 100 are 25 and 75; those of the normal one 1.349 apart.
        assert GreyValues(np.arange(101.0)).spread == pytest.approx(50 / 1.349)

    def test_spread_of_normal_grey_is_its_standard_deviation(self):
        values = GreyValues.of(noisy(128, 12, 0), np.ones((64, 64), bool))
        assert values.spread == pytest.approx(12, abs=0.8)

    def test_colour_counts_by_its_mean(self):
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[...] = (30, 60, 90)
        image = SliceImage(pixels, (1.0, 1.0), "colour")
        assert GreyValues.of(image, square(9)).median == 60

    def test_distance_is_scipy_s(self):
        first = GreyValues.of(noisy(100, 10, 1), square(20))
        second = GreyValues.of(noisy(108, 15, 2), square(31))
        expected = ks_2samp(first.values, second.values).statistic
        assert first.distance(second) == pytest.approx(expected)

    def test_chance_exceeds_the_expected_distance_in_about_one_of_twenty(self):
        rng = np.random.default_rng(0)
        samples = [
            (GreyValues(np.sort(rng.normal(size=60))), GreyValues(np.sort(rng.normal(size=90))))
            for _ in range(1000)
        ]
        beyond = [a.distance(b) > a.expected_distance(b) for a, b in samples]
        assert 0.02 < np.mean(beyond) < 0.07


@pytest.mark.parametrize(
    ("deviation", "median", "ending"),
    [(0, 108, None), (0, 109, StopReason.DOUBT), (20, 118, None), (20, 124, StopReason.DOUBT)],
)
def test_median_may_move_by_one_spread_of_at_least_eight_levels(deviation, median, ending):
    rule = replace(RULE, max_grey_step=1.0)
    first = noisy(100, deviation, 3) if deviation else grey(100)
    assert watch(rule, first, square(30)).judge(grey(median), tracked(square(30))) is ending


def test_another_texture_of_equal_median_is_a_step():
    # Cancellous bone over a disc: the medians are equal, the distributions are not.
    seen = watch(RULE, noisy(90, 15, 4), square(20))
    assert seen.judge(noisy(90, 15, 5), tracked(square(20))) is None
    assert seen.judge(noisy(90, 3, 6), tracked(square(20))) is StopReason.STEP


def test_a_step_is_one_from_the_last_slice_and_not_from_the_prompted_one():
    # Of 400 px each a distance of 0.096 is chance's and 0.2 the rule's; from slice to slice a
    # quarter of the pixels brightens, so that the third is 0.75 from the first.
    rule = replace(RULE, max_grey_change=100.0)
    seen = watch(rule, grey(100), square(20))
    for brighter in (5, 10, 15):
        image = grey(100)
        image.pixels[:brighter] = 140
        assert seen.judge(image, tracked(square(20))) is None, brighter
    assert seen.judge(grey(100), tracked(square(20))) is StopReason.STEP


def test_area_and_overlap_are_judged_against_the_last_mask_and_not_the_prompted_one():
    seen = watch(NO_BOUND_ON_GREY, grey(100), square(10))
    # Areas x 2.25, 1.78 and 1.56, each within 3, at last x 6.25 of the first.
    for side in (15, 20, 25):
        assert seen.judge(grey(100), tracked(square(side))) is None, side
    # It slides by 5 of 25 px a slice, until the first mask is left behind.
    for corner in (5, 10, 15):
        assert seen.judge(grey(100), tracked(square(25, corner))) is None, corner
    assert seen.judge(grey(100), tracked(square(10))) is StopReason.OVERLAP


def test_few_pixels_may_differ_by_chance():
    # Nine pixels each: a distance of 0.67 is within 0.64 of chance and 0.2 of tolerance.
    rule = replace(RULE, max_grey_change=100.0)
    first, second = grey(100), grey(100)
    second.pixels[:2, :3] = 140
    assert watch(rule, first, square(3)).judge(second, tracked(square(3))) is None
    first, second = grey(100), grey(100)
    second.pixels[:20, :14] = 140
    assert watch(rule, first, square(20)).judge(second, tracked(square(20))) is StopReason.STEP


def test_quality_is_judged_by_two_slices_against_its_median():
    same = square(20)
    seen = watch(NO_BOUND_ON_GREY, grey(100), same, iou=0.80)
    ious = [0.82, 0.80, 0.60, 0.82, 0.80, 0.70, 0.70]
    endings = [seen.judge(grey(100), tracked(same, iou=iou)) for iou in ious]
    # 0.60 and its neighbour 0.80 have the mean 0.70, 12.5 % below 0.80
    assert endings == [None, None, StopReason.DOUBT, StopReason.DOUBT, None, None, StopReason.DOUBT]


@pytest.mark.parametrize(
    ("median", "iou", "ending"),
    [(106, 0.8, None), (100, 0.7, None), (106, 0.7, StopReason.DOUBT)],
)
def test_some_change_of_grey_and_some_loss_of_quality_add_up(median, iou, ending):
    # 6 of 8 levels are 0.75 of their bound; a mean of 0.75 after 0.8 is 0.625 of its.
    rule = replace(RULE, max_grey_step=1.0)
    seen = watch(rule, grey(100), square(20), iou=0.8)
    assert seen.judge(grey(100), tracked(square(20), iou=0.8)) is None
    assert seen.judge(grey(median), tracked(square(20), iou=iou)) is ending


def test_quality_is_judged_from_the_third_slice_on():
    # After 0.9 and 0.3 the mean, 0.6, is the median too; after another 0.3 it is half of 0.6.
    seen = watch(NO_BOUND_ON_GREY, grey(100), square(20), iou=0.9)
    assert seen.judge(grey(100), tracked(square(20), iou=0.3)) is None
    seen = watch(NO_BOUND_ON_GREY, grey(100), square(20), iou=0.9)
    assert seen.judge(grey(100), tracked(square(20), iou=0.8)) is None
    assert seen.judge(grey(100), tracked(square(20), iou=0.6)) is StopReason.DOUBT


class Stubborn:
    """A model that answers with the same place on each slice, whatever is there."""

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask

    def begin(self, index, image, prompt, mask) -> None:
        pass

    def turn(self) -> None:
        pass

    def step(self, index, image) -> TrackedMask:
        return tracked(self.mask)


def found(frames: list[SliceImage], start: int, rule: StopRule) -> list[int]:
    """Slices that a propagation by a stubborn model yields."""
    mask = square(20, 10)
    masks = propagate_both_ways(
        lambda image, prompt: SliceMask(mask, 0.9),
        Stubborn(mask),
        rule,
        frames,
        start,
        SlicePrompt((10.0, 10.0, 30.0, 30.0)),
    )
    return sorted(index for index, _ in masks)


def volume(means: list[float], deviations: list[float]) -> list[SliceImage]:
    return [noisy(m, d, seed) for seed, (m, d) in enumerate(zip(means, deviations, strict=True))]


class TestSyntheticVolumes:
    """Ten slices of the target (5 to 14) between five slices of something else on either side."""

    @pytest.mark.parametrize(
        ("mean", "deviation", "what"),
        [(40, 10, "fat"), (160, 10, "bone"), (112, 10, "an organ 12 levels brighter")],
    )
    def test_ends_where_another_tissue_begins(self, mean, deviation, what):
        frames = volume(
            [mean] * 5 + [100] * 10 + [mean] * 5, [deviation] * 5 + [10] * 10 + [deviation] * 5
        )
        assert found(frames, 9, StopRule()) == list(range(5, 15)), what

    def test_goes_on_through_noise_and_a_slow_drift_of_contrast(self):
        drift = [100 + 0.4 * k for k in range(20)]
        assert found(volume(drift, [10] * 20), 9, StopRule()) == list(range(20))

    def test_a_neighbour_that_is_reached_by_small_steps_is_not_entered(self):
        # Partial volume and a mask that slides over: 4 levels a slice, then the neighbour.
        ramp = [100.0] * 10 + [104, 108, 112, 116] + [118] * 6
        assert found(volume(ramp, [10] * 20), 5, StopRule()) == list(range(12))

    def test_a_neighbour_that_looks_the_same_is_beyond_this_rule(self):
        assert found(volume([100] * 20, [10] * 20), 9, StopRule()) == list(range(20))
