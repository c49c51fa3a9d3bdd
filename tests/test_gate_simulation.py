# SPDX-License-Identifier: Apache-2.0
"""The gate's error rates in small; the whole table is made by benchmarks/gate_simulation.py.

Bounds are those that a gate with the stated error meets all but once in a thousand runs. A gate
that asks for "not worse" promotes the live model itself, and many a candidate that is no better.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from medreasoner_training.experiments.gate_simulation import (
    BETTER,
    LUCKY,
    NO_OP,
    SPOILED,
    Site,
    Truth,
    differences,
    tally,
)
from medreasoner_training.gate import GateConfig

SITE = Site()
CONFIG = GateConfig(resamples=299)


def test_neither_a_spoiled_candidate_nor_the_live_model_itself_is_promoted():
    for truth in (SPOILED, NO_OP):
        found = tally(truth, SITE, CONFIG, gates=10, judge_all=True)
        assert (found.judged, found.promoted) == (10, 0)
        assert found.broken["box_iou"] == 10


def test_ten_lucky_candidates_in_a_row_seldom_get_one_through():
    """Of 60 series 1.5 are expected at 2.5 %, more than 6 once in a thousand; uncounted, 17."""
    counted = tally(LUCKY, SITE, CONFIG, gates=60, attempts=10)
    assert counted.promoted <= 6


def test_a_candidate_that_is_better_by_0_05_is_promoted_from_40_patients():
    """Of 60 at least 48 are expected, fewer than 38 once in a thousand."""
    found = tally(BETTER, SITE, CONFIG, gates=60, judge_all=True)
    assert found.promoted >= 38


def test_non_inferiority_as_the_old_margin_asked_for_it_promotes_what_is_no_better():
    """The same candidates by the rule that was: the simulation does tell the two gates apart."""
    old = dataclasses.replace(CONFIG, gain=-0.02)
    found = tally(LUCKY, SITE, old, gates=20, attempts=5)
    assert found.promoted >= 4


def test_those_who_are_passed_over_would_not_have_been_promoted():
    every = tally(LUCKY, SITE, CONFIG, gates=40, judge_all=True)
    likely = tally(LUCKY, SITE, CONFIG, gates=40)
    assert every.judged == 40
    assert likely.judged < 20
    assert likely.promoted == every.promoted


@pytest.mark.parametrize("gain", [-0.10, 0.0, 0.05])
def test_simulated_candidates_are_what_they_are_said_to_be(gain):
    from medreasoner_training.experiments.gate_simulation import _calibrated, _Trial

    large = dataclasses.replace(SITE, patients=4000)
    rng = np.random.default_rng(17)
    truth = _calibrated(Truth(gain=gain), SITE)
    sums, counts = differences(_Trial(large, rng).compared(truth, rng))
    assert sums.sum() / counts.sum() == pytest.approx(gain, abs=0.006)
