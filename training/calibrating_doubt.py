# SPDX-License-Identifier: Apache-2.0
"""The probability that a mask is good, fitted to how far readings of its slice agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medreasoner_infer.doubt import DoubtCalibration
from medreasoner_infer.doubt_record import GOOD_DICE
from medreasoner_training.calibrating import CalibrationError, calibration_error, patient_folds

REGULARISATION = 100.0
"""Inverse strength of the weights' penalty; both inputs lie between 0 and 1."""


@dataclass(frozen=True)
class JudgedMask:
    """An answer's mask set against the truth.

    Attributes:
        agreement: of the further readings with the answer, 0...1.
        dice: of the mask with the truth on the slice; 1 where both are empty.
        predicted_iou: the segmenter's own estimate; ``None`` of an answer without a mask.
        patient: pseudonym.
        understood: whether the model understood the question.
    """

    agreement: float
    dice: float
    predicted_iou: float | None
    patient: str = ""
    understood: bool = True

    @property
    def good(self) -> bool:
        """Whether the Dice is 0.7 or more."""
        return self.dice >= GOOD_DICE


def fit_doubt(judged: Sequence[JudgedMask], fitted_on: str) -> DoubtCalibration:
    """Both logistic regressions.

    Raises:
        CalibrationError: there is no answer.
    """
    if not judged:
        raise CalibrationError("There is no answer to fit on. Give data with masks.")
    masks = [
        ((each.agreement, each.predicted_iou), each.good)
        for each in judged
        if each.predicted_iou is not None
    ]
    others = [
        ((each.agreement, float(not each.understood)), each.good)
        for each in judged
        if each.predicted_iou is None
    ]
    bias, weight, weight_of_iou = _logistic(masks, 2)
    other_bias, other_weight, not_understood = _logistic(others, 2)
    return DoubtCalibration(
        (bias, weight, weight_of_iou), (other_bias, other_weight), fitted_on, not_understood
    )


def _logistic(rows: Sequence[tuple[tuple[float, ...], bool]], width: int) -> tuple[float, ...]:
    """Bias and weights; the mean where all are good, or none is, by Laplace's rule."""
    from sklearn.linear_model import LogisticRegression

    good = [is_good for _, is_good in rows]
    if len(set(good)) < 2:
        share = (sum(good) + 1) / (len(good) + 2)
        return (float(np.log(share / (1 - share))), *(0.0,) * width)
    table = np.array([values for values, _ in rows])
    model = LogisticRegression(C=REGULARISATION, max_iter=1000).fit(table, good)
    return (float(model.intercept_[0]), *(float(weight) for weight in model.coef_[0]))


def unseen_chances(judged: Sequence[JudgedMask]) -> list[float]:
    """By answer the probability by a fit that has seen none of its patient's.

    Raises:
        CalibrationError: there are too few answers or patients.
    """
    chances = np.empty(len(judged))
    for seen, unseen in patient_folds([each.patient for each in judged]):
        calibration = fit_doubt([judged[at] for at in seen], "")
        chances[unseen] = [
            calibration.probability(
                judged[at].agreement, judged[at].predicted_iou, understood=judged[at].understood
            )
            for at in unseen
        ]
    return chances.tolist()


def doubt_figures(judged: Sequence[JudgedMask], chances: Sequence[float]) -> dict[str, Any]:
    """Share of good masks, AUROC of the agreement and of ``chances``, their calibration error."""
    from sklearn.metrics import roc_auc_score

    good = [each.good for each in judged]
    agreements = [each.agreement for each in judged]
    both = len(set(good)) == 2
    return {
        "n": len(judged),
        "good": round(float(np.mean(good)), 4),
        "auroc_of_agreement": round(float(roc_auc_score(good, agreements)), 4) if both else None,
        "auroc": round(float(roc_auc_score(good, chances)), 4) if both else None,
        "calibration_error": round(calibration_error(chances, good), 4),
    }
