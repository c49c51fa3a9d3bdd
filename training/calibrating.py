# SPDX-License-Identifier: Apache-2.0
"""The probability that an answer is right, fitted for any local reasoner on images with truth.

Inputs of the fit are an answer's own probabilities and the shape of its box
(:class:`~medreasoner_infer.types.Evidence`); boxes and absences are fitted apart. How far the
result holds is measured on patients that its fit did not see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.errors import InputError
from medreasoner_infer.reasoners.calibration import Calibration, Logistic
from medreasoner_infer.types import XYXY, Evidence, ReasonerAnswer

IntArray = NDArray[np.intp]

BINS = 10
FOLDS = 5
LEAST_ANSWERS, LEAST_PATIENTS = 100, 10
"""Of boxes and absences together; fewer give a fit that tells more of chance than of the model."""
RIGHT_IOU = 0.5


class CalibrationError(InputError):
    """A reasoner cannot be calibrated, or not on these data."""


@dataclass(frozen=True)
class Judged:
    """An answer that says present or absent, and whether that is right.

    Attributes:
        present: what it says.
        confidence: as the reasoner tells it.
        right: the box has an IoU above 0.5 with the truth, or the target is not there.
        evidence: what the probability is fitted on.
        patient: pseudonym; empty where none is told.
    """

    present: bool
    confidence: float
    right: bool
    evidence: Evidence
    patient: str = ""


def judged_answer(
    answer: ReasonerAnswer, found: XYXY | None, truth: XYXY | None, patient: str = ""
) -> Judged | None:
    """Set an answer against the truth; ``None`` where it says neither, or tells no evidence.

    Args:
        answer: of a local reasoner.
        found: its box, in the frame of the truth.
        truth: box of the target; ``None`` where it is absent.
        patient: whom the image is of.
    """
    if answer.evidence is None or answer.confidence is None:
        return None
    if answer.grounding.outcome == "not_understood":
        return None
    if found is None or truth is None:
        right = found is None and truth is None
    else:
        right = box_iou(found, truth) > RIGHT_IOU
    return Judged(found is not None, answer.confidence, right, answer.evidence, patient)


def fit(judged: Sequence[Judged]) -> Logistic:
    """A logistic regression of standardised evidence; the mean where all are right, or none is.

    Raises:
        CalibrationError: there is no answer.
    """
    from sklearn.linear_model import LogisticRegression

    if not judged:
        raise CalibrationError(
            "There is no answer with a box, or none without, to fit on. Give data with targets "
            "that are there and others that are not."
        )
    table = np.array([astuple(each.evidence) for each in judged])
    mean, scale = table.mean(0), np.maximum(table.std(0), 1e-6)
    right = [each.right for each in judged]
    if len(set(right)) == 1:  # by Laplace's rule of succession
        share = (sum(right) + 1) / (len(right) + 2)
        weights, bias = (0.0,) * table.shape[1], float(np.log(share / (1 - share)))
    else:
        model = LogisticRegression(max_iter=1000).fit((table - mean) / scale, right)
        weights = tuple(float(weight) for weight in model.coef_[0])
        bias = float(model.intercept_[0])
    return Logistic(tuple(mean.tolist()), tuple(scale.tolist()), weights, bias)


def fitted(judged: Sequence[Judged], fitted_on: str) -> Calibration:
    """Both regressions.

    Raises:
        CalibrationError: there is no box, or no absence, among the answers.
    """
    present = [each for each in judged if each.present]
    absent = [each for each in judged if not each.present]
    return Calibration(fit(present), fit(absent), fitted_on)


def calibrated(judged: Judged, calibration: Calibration) -> Judged:
    """The answer with the fitted probability as its confidence."""
    chance = calibration.probability(judged.evidence, present=judged.present)
    return replace(judged, confidence=chance)


def patient_folds(patients: Sequence[str]) -> Iterator[tuple[IntArray, IntArray]]:
    """Places of the answers that a fit sees, and of those that it does not; no patient is in both.

    Args:
        patients: of each answer.

    Raises:
        CalibrationError: there are too few answers or patients.
    """
    from sklearn.model_selection import GroupKFold

    count = len(set(patients))
    if len(patients) < LEAST_ANSWERS or count < LEAST_PATIENTS:
        raise CalibrationError(
            f"{len(patients)} answers about {count} patients can be judged; expected "
            f"{LEAST_ANSWERS} and {LEAST_PATIENTS} at least. Give more data."
        )
    yield from GroupKFold(FOLDS, shuffle=True, random_state=0).split(patients, groups=patients)


def out_of_fold(judged: Sequence[Judged]) -> list[Judged]:
    """Each answer with the probability of a fit that has seen none of its patient's.

    Raises:
        CalibrationError: there are too few answers or patients.
    """
    found: list[Judged] = []
    for seen, unseen in patient_folds([each.patient for each in judged]):
        calibration = fitted([judged[at] for at in seen], "")
        found += [calibrated(judged[at], calibration) for at in unseen]
    return found


def figures(judged: Sequence[Judged]) -> dict[str, dict[str, Any]]:
    """AUROC and expected calibration error of the confidence, of boxes and of absences."""
    from sklearn.metrics import roc_auc_score

    found: dict[str, dict[str, Any]] = {}
    for name, present in (("present", True), ("absent", False)):
        part = [each for each in judged if each.present == present]
        right = [each.right for each in part]
        chances = [each.confidence for each in part]
        both = len(set(right)) == 2
        found[name] = {
            "n": len(part),
            "right": round(float(np.mean(right)), 4) if part else None,
            "auroc": round(float(roc_auc_score(right, chances)), 4) if both else None,
            "calibration_error": round(calibration_error(chances, right), 4) if part else None,
        }
    return found


def calibration_error(chances: Sequence[float], right: Sequence[bool], bins: int = BINS) -> float:
    """Expected calibration error: the mean gap between confidence and share of right answers.

    Over equally filled bins (Naeini et al., AAAI 2015).
    """
    order = np.argsort(chances)
    p, r = np.asarray(chances)[order], np.asarray(right, float)[order]
    parts = zip(np.array_split(p, bins), np.array_split(r, bins), strict=True)
    return float(sum(len(a) * abs(a.mean() - b.mean()) for a, b in parts if len(a)) / len(p))
