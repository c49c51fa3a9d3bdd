# SPDX-License-Identifier: Apache-2.0
"""The probability that an answer is right."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.reasoners.calibration import (
    CALIBRATION_FILE,
    Calibration,
    Logistic,
    calibration_of,
    evidence_of,
    site_calibration_path,
)
from medreasoner_infer.types import Evidence
from medreasoner_training.calibrating import (
    CalibrationError,
    Judged,
    calibration_error,
    figures,
    fit,
    out_of_fold,
)

COUNT = len(fields(Evidence))
PIECES = ["<think>", "A", " kidney", "</think>", "<answer>", "[32", ",64]", "</answer>"]
LOGPROBS = [-0.1, -0.2, -0.9, -0.0, -0.0, -0.5, -0.7, -0.0]
NEUTRAL = Logistic((0.0,) * COUNT, (1.0,) * COUNT, (0.0,) * COUNT, 0.0)


def test_evidence_is_that_of_the_tokens_before_and_in_the_answer() -> None:
    found = evidence_of(PIECES, LOGPROBS, (32, 32, 96, 64), 128)
    assert found is not None
    assert found.reasoning_least == -0.9
    assert found.answer_least == -0.7
    assert found.reasoning_mean == pytest.approx(-1.2 / 5, abs=1e-5)  # one certain token in front
    assert found.answer_mean == pytest.approx(-1.2 / 5, abs=1e-5)
    assert found.log_area == pytest.approx(math.log(64 * 32 / 128**2))
    assert found.log_aspect == pytest.approx(math.log(2))


def test_without_a_box_there_is_no_area_and_without_an_answer_no_evidence() -> None:
    absent = evidence_of(PIECES, LOGPROBS, None, 128)
    assert absent is not None
    assert (absent.log_area, absent.log_aspect) == (0.0, 0.0)
    assert evidence_of(["no", " answer"], [-1.0, -1.0], None, 128) is None


TRACE = [
    "<think>",
    "The",
    " spleen",
    ",",
    " which",
    " is",
    ",",
    " no",
    "</think>",
    "<answer>",
    "null",
]


@pytest.mark.parametrize(("chance", "log_odds"), [(0.75, math.log(3)), (1.0, math.log(1e6 - 1))])
def test_the_turn_is_the_token_after_the_first_comma_of_the_trace(chance, log_odds) -> None:
    logprobs = [-0.1] * len(TRACE)
    logprobs[4] = math.log(chance)
    found = evidence_of(TRACE, logprobs, None, 128)
    assert found is not None
    assert found.turn_log_odds == pytest.approx(log_odds)


def test_a_comma_of_the_answer_is_no_turn_of_the_trace() -> None:
    found = evidence_of(PIECES, LOGPROBS, None, 128)
    assert found is not None
    assert found.turn_log_odds == 0.0


def test_a_fit_from_before_the_last_evidence_was_known_gives_it_no_weight() -> None:
    earlier = Logistic((0.5,) * 6, (2.0,) * 6, (1.0,) * 6, 0.25)
    score = 0.25 + 6 * (-1.0 - 0.5) / 2.0
    found = Evidence(*[-1.0] * 6, turn_log_odds=40.0, kind_log_odds=-40.0)
    assert earlier.probability(found) == pytest.approx(1 / (1 + math.exp(-score)))


def _judged(count: int = 400) -> list[Judged]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        values = rng.normal(-1.0, 0.5, COUNT)
        right = bool(rng.random() < 1 / (1 + math.exp(-3 * (values[3] + 1.0))))
        found.append(Judged(number % 4 != 0, 0.99, right, Evidence(*values.tolist())))
    return found


def test_a_fit_gives_the_probabilities_of_scikit_learn() -> None:
    judged = _judged()
    table = np.array([list(asdict(each.evidence).values()) for each in judged])
    standard = (table - table.mean(0)) / table.std(0)
    right = [each.right for each in judged]
    theirs = LogisticRegression(max_iter=1000).fit(standard, right).predict_proba(standard)[:, 1]
    ours = [fit(judged).probability(each.evidence) for each in judged]
    assert ours == pytest.approx(theirs.tolist(), abs=1e-6)


SHA = "ab" * 32
THREE_OF_FOUR = Logistic((0.0,) * COUNT, (1.0,) * COUNT, (0.0,) * COUNT, math.log(3))


def test_a_calibration_is_read_as_it_was_written_and_a_sites_own_goes_before_it(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    assert calibration_of(tmp_path, SHA) is None
    shipped = Calibration(NEUTRAL, THREE_OF_FOUR, "400 answers")
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(asdict(shipped)))
    read = calibration_of(tmp_path, SHA)
    assert read == shipped
    found = Evidence(*[-1.0] * COUNT)
    assert read.probability(found, present=True) == 0.5
    assert read.probability(found, present=False) == pytest.approx(0.75)
    own = Calibration(THREE_OF_FOUR, NEUTRAL, "ours")
    site_calibration_path(SHA).parent.mkdir(parents=True)
    site_calibration_path(SHA).write_text(json.dumps(asdict(own)))
    assert calibration_of(tmp_path, SHA) == own
    assert calibration_of(None, SHA) == own
    assert calibration_of(tmp_path, "cd" * 32) == shipped


NOT_TOGETHER = {"mean": [0.0], "scale": [1.0, 1.0], "weights": [0.0], "bias": 0.0}
TOO_MANY = {"mean": [0.0] * 9, "scale": [1.0] * 9, "weights": [0.0] * 9, "bias": 0.0}
NO_SCALE = {"mean": [0.0], "scale": [0.0], "weights": [0.0], "bias": 0.0}
OF_NUMBERS = [
    json.dumps({"present": numbers, "absent": numbers, "fitted_on": ""})
    for numbers in (NOT_TOGETHER, TOO_MANY, NO_SCALE)
]


@pytest.mark.parametrize("damaged", ["{", "[]", '{"present": {"mean": "x"}}', *OF_NUMBERS])
def test_a_damaged_calibration_is_refused(tmp_path: Path, monkeypatch, damaged: str) -> None:
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    (tmp_path / CALIBRATION_FILE).write_text(damaged)
    with pytest.raises(ModelUnavailableError, match="fit it anew or remove it"):
        calibration_of(tmp_path, SHA)


def test_where_all_answers_are_right_the_probability_is_by_laplace() -> None:
    judged = [replace(each, right=True) for each in _judged(8)]
    assert fit(judged).probability(judged[0].evidence) == pytest.approx(9 / 10)


def test_no_answer_is_told_by_a_fit_that_has_seen_its_patient() -> None:
    """Each patient's answers are right or wrong as a whole, and look alike: by heart 1.0."""
    rng = np.random.default_rng(1)
    judged = []
    for patient in range(60):
        looks, right = rng.normal(size=COUNT), bool(patient % 2)
        for number in range(4):
            evidence = Evidence(*(looks + 0.01 * rng.normal(size=COUNT)).tolist())
            judged.append(Judged(number < 3, 0.9, right, evidence, str(patient)))
    auroc = figures(out_of_fold(judged))["present"]["auroc"]
    assert auroc == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(("count", "patients"), [(99, 20), (200, 9)])
def test_too_few_answers_or_patients_are_refused(count: int, patients: int) -> None:
    judged = [replace(e, patient=str(n % patients)) for n, e in enumerate(_judged(count))]
    with pytest.raises(CalibrationError, match=f"{count} answers about {patients} patients"):
        out_of_fold(judged)


def test_calibration_error_is_the_gap_between_confidence_and_share() -> None:
    assert calibration_error([0.8] * 10, [True] * 8 + [False] * 2, bins=1) == pytest.approx(0.0)
    assert calibration_error([0.9] * 10, [True] * 5 + [False] * 5, bins=1) == pytest.approx(0.4)
    ordered = [0.1, 0.1, 0.9, 0.9]
    assert calibration_error(ordered, [False, False, True, True], bins=2) == pytest.approx(0.1)


def test_boxes_and_absences_are_judged_apart() -> None:
    evidence = Evidence(*[0.0] * COUNT)
    judged = [
        Judged(True, 0.9, True, evidence),
        Judged(True, 0.2, False, evidence),
        Judged(False, 0.6, True, evidence),
    ]
    found = figures(judged)
    assert found["present"]["auroc"] == 1.0
    assert found["absent"] == {"n": 1, "right": 1.0, "auroc": None, "calibration_error": 0.4}
