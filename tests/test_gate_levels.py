# SPDX-License-Identifier: Apache-2.0
"""What the attempts may spend, and what is told of power before a training."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medreasoner_training.gate import GateConfig, GateConfigError, Power, attempt_level
from medreasoner_training.gate.levels import enough_resamples, widened_confidence

CONFIG = GateConfig()


def test_all_attempts_that_may_ever_follow_spend_no_more_than_the_whole():
    levels = [attempt_level(CONFIG, number) for number in range(1, 5001)]
    assert sum(levels) < 0.025
    assert sum(levels) == pytest.approx(0.025 * 5000 / 5001)
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(0.0125)


def test_the_total_is_what_the_configuration_says():
    strict = GateConfig(confidence=0.99)
    assert sum(attempt_level(strict, n) for n in range(1, 1001)) == pytest.approx(0.005, rel=0.01)
    with pytest.raises(GateConfigError, match="attempt is 0"):
        attempt_level(CONFIG, 0)


@pytest.mark.parametrize("patients", [2, 3, 20, 40, 1000])
@pytest.mark.parametrize("attempt", [1, 2, 10, 1000])
def test_intervals_of_any_size_at_any_attempt_can_be_drawn(patients, attempt):
    level = attempt_level(CONFIG, attempt)
    wide = widened_confidence(1 - 2 * level, patients)
    assert 0.97 < wide < 1.0
    assert wide >= min(1 - 2 * level, 1 - 2 / 200_000)
    assert 9999 <= enough_resamples(CONFIG, wide) <= 200_000


@pytest.mark.parametrize(("patients", "attempt"), [(20, 1), (40, 1), (40, 6)])
def test_the_gain_that_is_told_is_promoted_as_often_as_is_told(patients, attempt):
    """Against 20,000 comparisons with Student's t, which nothing of the gate is made of."""
    power = Power(patients, attempt, 0.10, False, CONFIG)
    rng = np.random.default_rng(patients + attempt)
    values = rng.normal(power.true_gain, 0.10, (20_000, patients))
    error = values.std(axis=1, ddof=1) / np.sqrt(patients)
    bound = values.mean(axis=1) - error * stats.t.isf(attempt_level(CONFIG, attempt), patients - 1)
    assert (bound > 0).mean() == pytest.approx(0.8, abs=0.05)


def test_more_is_asked_of_later_attempts_and_twice_the_patients_make_up_for_ten():
    first, tenth = (Power(40, number, 0.1, False, CONFIG).true_gain for number in (1, 10))
    assert first == pytest.approx(0.051, abs=0.001)
    assert tenth > 1.4 * first
    assert Power(80, 10, 0.1, False, CONFIG).true_gain < first


def test_power_says_where_its_spread_is_from():
    assumed, measured = (Power(40, 2, 0.1, known, CONFIG).sentence for known in (False, True))
    assert assumed.startswith("40 patients are held out. This will be attempt 2 against")
    assert "judged at 99.17%" in assumed
    assert "a true gain of +0.058 in box_iou" in assumed
    assert "0.100, assumed" in assumed
    assert "0.100, as last measured here" in measured
