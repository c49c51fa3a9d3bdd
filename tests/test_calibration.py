# SPDX-License-Identifier: Apache-2.0
"""The probability that an answer is right."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.reasoners.calibration import (
    CALIBRATION_FILE,
    Calibration,
    Logistic,
    evidence_of,
    read_calibration,
)
from medreasoner_infer.types import Evidence
from medreasoner_training.embedded.reasoner.calibrate import (
    Judged,
    calibration_error,
    figures,
    fit,
)

PIECES = ["<think>", "A", " kidney", "</think>", "<answer>", "[32", ",64]", "</answer>"]
LOGPROBS = [-0.1, -0.2, -0.9, -0.0, -0.0, -0.5, -0.7, -0.0]
NEUTRAL = Logistic((0.0,) * 6, (1.0,) * 6, (0.0,) * 6, 0.0)


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


def _judged(count: int = 400) -> list[Judged]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        values = rng.normal(-1.0, 0.5, 6)
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


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    shifted = Logistic((0.0,) * 6, (1.0,) * 6, (0.0,) * 6, math.log(3))
    calibration = Calibration(NEUTRAL, shifted, "400 answers")
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(asdict(calibration)))
    read = read_calibration(tmp_path)
    assert read == calibration
    found = Evidence(*[-1.0] * 6)
    assert read.probability(found, present=True) == 0.5
    assert read.probability(found, present=False) == pytest.approx(0.75)


def test_a_folder_without_one_has_none_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) is None
    for damaged in ("{", "[]", '{"present": {"mean": "x"}}'):
        (tmp_path / CALIBRATION_FILE).write_text(damaged)
        with pytest.raises(ModelUnavailableError, match="fit it anew or remove it"):
            read_calibration(tmp_path)


def test_calibration_error_is_the_gap_between_confidence_and_share() -> None:
    assert calibration_error([0.8] * 10, [True] * 8 + [False] * 2, bins=1) == pytest.approx(0.0)
    assert calibration_error([0.9] * 10, [True] * 5 + [False] * 5, bins=1) == pytest.approx(0.4)
    ordered = [0.1, 0.1, 0.9, 0.9]
    assert calibration_error(ordered, [False, False, True, True], bins=2) == pytest.approx(0.1)


def test_boxes_and_absences_are_judged_apart() -> None:
    evidence = Evidence(*[0.0] * 6)
    judged = [
        Judged(True, 0.9, True, evidence),
        Judged(True, 0.2, False, evidence),
        Judged(False, 0.6, True, evidence),
    ]
    found = figures(judged)
    assert found["present"]["auroc"] == 1.0
    assert found["absent"] == {"n": 1, "right": 1.0, "auroc": None, "calibration_error": 0.4}
