# SPDX-License-Identifier: Apache-2.0
"""The probability that a mask is good, from the agreement of readings."""

from __future__ import annotations

import numpy as np
import pytest

from medreasoner_training.calibrating import CalibrationError
from medreasoner_training.calibrating_doubt import (
    JudgedMask,
    doubt_figures,
    fit_doubt,
    unseen_chances,
)


def drawn(count: int = 400, seed: int = 0) -> list[JudgedMask]:
    """Masks that are good with a known probability, the logistic of 4 a + 2 q - 3."""
    rng = np.random.default_rng(seed)
    agreements, ious = rng.random((2, count))
    good = rng.random(count) < 1 / (1 + np.exp(3 - 4 * agreements - 2 * ious))
    rows = zip(agreements.tolist(), ious.tolist(), good, strict=True)
    return [
        JudgedMask(agreement, 0.9 if is_good else 0.2, iou, f"p{number % 40}")
        for number, (agreement, iou, is_good) in enumerate(rows)
    ]


def test_a_known_probability_is_found_again():
    calibration = fit_doubt(drawn(4000), "a test")
    for agreement, iou in ((0.1, 0.9), (0.5, 0.5), (0.9, 0.9)):
        known = 1 / (1 + np.exp(3 - 4 * agreement - 2 * iou))
        assert calibration.probability(agreement, iou) == pytest.approx(known, abs=0.06)


def test_answers_without_a_mask_are_fitted_by_themselves():
    absent = [JudgedMask(1.0, float(n % 4 == 0), None) for n in range(200)]
    masks = [JudgedMask(1.0, 0.9, 0.9) for _ in range(200)]
    calibration = fit_doubt([*absent, *masks], "")
    assert calibration.probability(1.0, None) == pytest.approx(0.25, abs=0.02)
    assert calibration.probability(1.0, 0.9) > 0.98


def test_without_a_mask_it_counts_whether_the_question_was_understood():
    """Of those understood every second is right, of the others every tenth; agreement is chance."""
    agreements = np.random.default_rng(1).random(2000)
    judged = [
        JudgedMask(a, float(n % (2 if n % 4 < 2 else 10) == 0), None, understood=n % 4 < 2)
        for n, a in enumerate(agreements.tolist())
    ]
    shares = {
        known: np.mean([each.good for each in judged if each.understood == known])
        for known in (True, False)
    }
    calibration = fit_doubt(judged, "")
    for known, share in shares.items():
        assert calibration.probability(0.5, None, understood=known) == pytest.approx(
            share, abs=0.03
        )
    masks = [JudgedMask(a, 0.9, 0.9) for a in (0.2, 0.8)]
    with_masks = fit_doubt([*judged, *masks], "")
    assert with_masks.probability(0.5, 0.9) == with_masks.probability(0.5, 0.9, understood=False)


def test_masks_that_are_all_good_give_one_probability():
    calibration = fit_doubt([JudgedMask(a, 1.0, 0.5) for a in (0.1, 0.9)], "")
    for agreement in (0.1, 0.9):
        assert calibration.probability(agreement, 0.5) == pytest.approx(3 / 4)


def test_a_mask_is_good_from_a_dice_of_0_7_on():
    assert JudgedMask(0.5, 0.7, None).good
    assert not JudgedMask(0.5, 0.699, None).good


def test_figures_are_those_of_the_definitions():
    judged = drawn()
    chances = unseen_chances(judged)
    found = doubt_figures(judged, chances)
    good = np.array([each.good for each in judged])
    agreement = np.array([each.agreement for each in judged])
    pairs = agreement[good][:, None] - agreement[~good][None]
    assert found["auroc_of_agreement"] == pytest.approx(
        np.mean(pairs > 0) + np.mean(pairs == 0) / 2, abs=1e-4
    )
    assert found["n"] == 400
    assert found["good"] == pytest.approx(good.mean(), abs=1e-4)
    assert found["calibration_error"] < 0.12


def test_no_chance_is_told_by_a_fit_that_has_seen_the_patient():
    """One patient whose masks are all bad at full agreement cannot be foreseen from the others."""
    others = [JudgedMask(a, 0.9, 0.5, f"p{n % 20}") for n, a in enumerate(np.linspace(0.6, 1, 200))]
    low = [JudgedMask(a, 0.1, 0.5, f"p{n % 20}") for n, a in enumerate(np.linspace(0, 0.4, 200))]
    odd = [JudgedMask(1.0, 0.0, 0.5, "odd")] * 30
    chances = unseen_chances([*others, *low, *odd])
    assert min(chances[-30:]) > 0.9


@pytest.mark.parametrize("judged", [drawn(50), [JudgedMask(0.5, 0.9, 0.5, "one")] * 200])
def test_too_little_is_refused(judged):
    with pytest.raises(CalibrationError, match="Give more data"):
        unseen_chances(judged)
    with pytest.raises(CalibrationError):
        fit_doubt([], "")
