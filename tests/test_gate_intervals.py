# SPDX-License-Identifier: Apache-2.0
"""The interval of paired differences against scipy, a loop over patients, and its symmetries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from medreasoner_training.gate import (
    GateConfig,
    HeldOut,
    ModelScores,
    ScoresError,
    compare_paired,
    decide,
)
from medreasoner_training.gate.intervals import patient_sd

CONFIG = GateConfig(resamples=500)


def compare(candidate, live, patients, config=CONFIG):
    return compare_paired(
        np.asarray(candidate, float), np.asarray(live, float), patients, config, metric="m"
    )


def test_one_sample_per_patient_gives_scipy_s_interval_of_the_paired_mean_difference():
    rng = np.random.default_rng(3)
    candidate, live = rng.beta(2, 3, 40), rng.beta(2, 4, 40)
    got = compare(candidate, live, np.arange(40))
    expected = stats.bootstrap(
        (candidate, live),
        lambda x, y: np.mean(x) - np.mean(y),
        paired=True,
        vectorized=False,
        n_resamples=500,
        method="BCa",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    assert (got.low, got.high) == pytest.approx(tuple(expected), abs=1e-12)
    assert got.difference == pytest.approx(candidate.mean() - live.mean())


def test_patients_with_several_samples_give_scipy_s_interval_over_patients():
    """The statistic written anew: gather the drawn patients' samples and average them."""
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 6, 30)
    patients = np.repeat(np.arange(30), sizes)
    difference = rng.normal(0.02, 0.1, sizes.sum()) + rng.normal(0, 0.1, 30)[patients]
    by_patient = [difference[patients == number] for number in range(30)]
    expected = stats.bootstrap(
        (np.arange(30),),
        lambda drawn: np.concatenate([by_patient[number] for number in drawn]).mean(),
        vectorized=False,
        n_resamples=500,
        method="BCa",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    got = compare(difference, np.zeros_like(difference), patients)
    assert (got.low, got.high) == pytest.approx(tuple(expected), abs=1e-12)
    assert got.difference == pytest.approx(difference.mean())
    assert (got.samples, got.patients) == (sizes.sum(), 30)


def test_copies_of_a_patient_s_slices_are_no_further_evidence():
    rng = np.random.default_rng(5)
    once = rng.normal(0, 0.1, 25)
    single = compare(once, np.zeros(25), np.arange(25))
    copied = compare(np.repeat(once, 10), np.zeros(250), np.repeat(np.arange(25), 10))
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high))
    pretended = compare(np.repeat(once, 10), np.zeros(250), np.arange(250))
    assert pretended.high - pretended.low < 0.5 * (single.high - single.low)


def test_interval_holds_the_true_difference_about_as_often_as_it_says():
    """200 studies of 30 patients; 95 % intervals: 190 expected, fewer than 175 has p < 1e-4."""
    rng = np.random.default_rng(6)
    config = GateConfig(resamples=300)
    patients = np.repeat(np.arange(30), 3)
    hits = 0
    for _ in range(200):
        values = 0.05 + rng.normal(0, 0.1, 30)[patients] + rng.normal(0, 0.05, 90)
        line = compare(values, np.zeros(90), patients, config)
        hits += line.low <= 0.05 <= line.high
    assert 175 <= hits <= 200


def test_single_patient_has_no_interval_and_no_sample_no_comparison():
    line = compare([0.5, 0.7], [0.4, 0.4], np.array(["a", "a"]))
    assert (line.low, line.high) == (None, None)
    assert line.difference == pytest.approx(0.2)
    assert compare([np.nan], [np.nan], np.array(["a"])) is None


def test_equal_differences_have_an_interval_of_no_width():
    line = compare([0.3, 0.7, 0.1], [0.2, 0.6, 0.0], np.arange(3))
    assert (line.low, line.high) == pytest.approx((0.1, 0.1))


def test_models_scored_on_different_samples_are_refused():
    with pytest.raises(ScoresError, match="different samples"):
        compare([0.5, np.nan], [0.5, 0.5], np.arange(2))


def test_the_interval_of_a_decision_is_as_wide_as_student_s():
    """For a normal spread the widened bootstrap is the t interval; the plain one is too narrow."""
    values = np.sqrt(2) * special.erfinv(2 * (np.arange(20) + 0.5) / 20 - 1)
    config = GateConfig(confidence=0.98, resamples=20_000)
    line = compare_paired(values, values * 0, np.arange(20), config, metric="m", small_sample=True)
    student = stats.t.interval(0.98, 19, 0.0, values.std(ddof=1) / np.sqrt(20))
    assert (line.low, line.high) == pytest.approx(student, rel=0.06)
    plain = compare(values, values * 0, np.arange(20), config)
    assert plain.low > 0.93 * student[0]


def test_the_spread_of_patients_gives_the_standard_error_of_the_mean_of_samples():
    """Against a bootstrap of whole patients, whose numbers of samples differ."""
    rng = np.random.default_rng(8)
    sizes = rng.integers(1, 9, 200)
    patients = np.repeat(np.arange(200), sizes)
    values = rng.normal(0.1, 0.2, 200)[patients] + rng.normal(0, 0.1, sizes.sum())
    by_patient = [values[patients == number] for number in range(200)]
    means = [
        np.concatenate([by_patient[number] for number in rng.integers(0, 200, 200)]).mean()
        for _ in range(2000)
    ]
    spread = patient_sd(values, np.zeros_like(values), patients)
    assert spread / np.sqrt(200) == pytest.approx(np.std(means), rel=0.08)
    assert patient_sd(values[:1], values[:1], patients[:1]) is None


unit = st.floats(0, 1, width=32)
paired = st.lists(st.tuples(unit, unit, st.integers(0, 9)), min_size=2, max_size=40)


@settings(max_examples=60)
@given(paired)
def test_swapping_the_models_mirrors_the_difference(rows):
    candidate, live, patients = (np.array(column) for column in zip(*rows, strict=True))
    forth = compare(candidate, live, patients)
    back = compare(live, candidate, patients)
    assert back.difference == pytest.approx(-forth.difference, abs=1e-9)
    assert (back.candidate_mean, back.live_mean) == (forth.live_mean, forth.candidate_mean)
    if forth.low is not None:
        assert not np.isnan([forth.low, forth.high]).any()
        assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low), abs=1e-6)


@settings(max_examples=60)
@given(paired, st.randoms(use_true_random=False))
def test_order_of_the_samples_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    first, second = (
        compare(*(np.array(column) for column in zip(*each, strict=True)))
        for each in (rows, shuffled)
    )
    assert first.difference == pytest.approx(second.difference, abs=1e-9)
    if first.low is not None:
        assert (first.low, first.high) == pytest.approx((second.low, second.high), abs=1e-6)


@settings(max_examples=30)
@given(st.lists(st.tuples(unit, unit), min_size=20, max_size=40))
def test_a_surely_better_model_and_its_swap_are_never_both_promoted(rows):
    n = len(rows)
    truth = HeldOut(np.arange(n), np.array(["x"] * n), np.ones(n, bool))
    no = np.zeros(n, bool)
    first, second = (
        ModelScores(name, no, no, np.array(column))
        for name, column in zip(("first", "second"), zip(*rows, strict=True), strict=True)
    )
    config = GateConfig(gain=0.0, resamples=200)
    forth, back = decide(truth, first, second, config), decide(truth, second, first, config)
    assert not (forth.promote and back.promote)
