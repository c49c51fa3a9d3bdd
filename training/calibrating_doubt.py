# SPDX-License-Identifier: Apache-2.0
"""The probability that a mask is good, fitted to how far readings of its slice agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medreasoner_infer.doubt import DoubtCalibration
from medreasoner_infer.doubt_record import GOOD_DICE
from medreasoner_training.calibrating import (
    FOLDS,
    LEAST_ANSWERS,
    LEAST_PATIENTS,
    CalibrationError,
    calibration_error,
)


@dataclass(frozen=True)
class JudgedMask:
    """An answer's mask set against the truth.

    Attributes:
        agreement: of the readings, 0...1.
        dice: of the mask with the truth on the slice; 1 where both are empty.
        patient: pseudonym.
    """

    agreement: float
    dice: float
    patient: str = ""

    @property
    def good(self) -> bool:
        """Whether the Dice is 0.7 or more."""
        return self.dice >= GOOD_DICE


def fit_doubt(judged: Sequence[JudgedMask], fitted_on: str) -> DoubtCalibration:
    """A logistic regression of the agreement; the mean where all masks are good, or none is.

    Raises:
        CalibrationError: there is no mask.
    """
    from sklearn.linear_model import LogisticRegression

    if not judged:
        raise CalibrationError("There is no answer to fit on. Give data with masks.")
    good = [each.good for each in judged]
    if len(set(good)) == 1:  # by Laplace's rule of succession
        share = (sum(good) + 1) / (len(good) + 2)
        return DoubtCalibration(0.0, float(np.log(share / (1 - share))), fitted_on)
    table = np.array([[each.agreement] for each in judged])
    model = LogisticRegression(C=100.0, max_iter=1000).fit(table, good)
    return DoubtCalibration(float(model.coef_[0][0]), float(model.intercept_[0]), fitted_on)


def unseen_chances(judged: Sequence[JudgedMask]) -> list[float]:
    """By answer the probability by a fit that has seen none of its patient's.

    Raises:
        CalibrationError: there are too few answers or patients.
    """
    from sklearn.model_selection import GroupKFold

    patients = np.array([each.patient for each in judged])
    count = len(set(patients))
    if len(judged) < LEAST_ANSWERS or count < LEAST_PATIENTS:
        raise CalibrationError(
            f"{len(judged)} answers about {count} patients can be judged; expected {LEAST_ANSWERS} "
            f"and {LEAST_PATIENTS} at least. Give more data."
        )
    chances = np.empty(len(judged))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0).split(patients, groups=patients)
    for seen, unseen in folds:
        calibration = fit_doubt([judged[at] for at in seen], "")
        chances[unseen] = [calibration.probability(judged[at].agreement) for at in unseen]
    return chances.tolist()


def doubt_figures(judged: Sequence[JudgedMask], chances: Sequence[float]) -> dict[str, Any]:
    """Number, share of good masks, AUROC of the agreement and calibration error of ``chances``."""
    from sklearn.metrics import roc_auc_score

    good = [each.good for each in judged]
    agreements = [each.agreement for each in judged]
    both = len(set(good)) == 2
    return {
        "n": len(judged),
        "good": round(float(np.mean(good)), 4),
        "auroc": round(float(roc_auc_score(good, agreements)), 4) if both else None,
        "calibration_error": round(calibration_error(chances, good), 4),
    }
