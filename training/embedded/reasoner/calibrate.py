# SPDX-License-Identifier: Apache-2.0
"""``python -m medreasoner_training.embedded.reasoner.calibrate --model DIR`` fits the confidence.

On phantoms of their own seeds and questions of the validation split, and on the real images that
may be trained on, in crops that were not. Writes ``calibration.json`` into the model folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path

import numpy as np

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.answer import parse_answer
from medreasoner_infer.atomic import write_durably
from medreasoner_infer.reasoners import Reasoner, load_transformers_reasoner, prepare_image
from medreasoner_infer.reasoners.calibration import CALIBRATION_FILE, Calibration, Logistic
from medreasoner_infer.types import XYXY, Evidence, ReasonerAnswer, ReasonerRequest

from ..questions import QuestionWriter
from ..required import command_line
from .asking import Asker
from .modelling import IMAGE_ENCODING
from .pictures import training_pictures
from .samples import SIZE_PX

SEED = 960_000
BINS = 10
_BATCH = 64


@dataclass(frozen=True)
class Settings:
    """Command line of the calibration."""

    model: str = field(metadata={"help": "model folder"})
    real_data: str = field(
        default="", metadata={"help": "folder of real images that may be trained on"}
    )
    questions: int = field(default=2000, metadata={"help": "questions to fit on"})


@dataclass(frozen=True)
class Trial:
    """A question about a letterboxed slice; ``bbox_xyxy_px`` is ``None`` for an absent target."""

    grey: np.ndarray
    query: str
    bbox_xyxy_px: XYXY | None


@dataclass(frozen=True)
class Judged:
    """An answer that says present or absent, and whether that is right."""

    present: bool
    confidence: float
    right: bool
    evidence: Evidence


def trials(asker: Asker, count: int, seed: int = SEED) -> Iterator[Trial]:
    """Questions that are to be understood, about drawn images."""
    index = drawn = 0
    while drawn < count:
        sample = asker.sample(np.random.default_rng([seed, index]), 3, 0)
        index += 1
        for asked in sample.questions:
            truth = parse_answer(asked.completion, image_size=SIZE_PX)
            if truth.outcome != "not_understood" and drawn < count:
                drawn += 1
                yield Trial(sample.image.grey, asked.query, truth.bbox_xyxy_px)


def judge(reasoner: Reasoner, asked: Sequence[Trial]) -> list[Judged]:
    """Answers to the trials that say present or absent; a box is right if its IoU is over 0.5."""
    answers: list[ReasonerAnswer] = []
    for start in range(0, len(asked), _BATCH):
        answers += reasoner.answer_batch(
            [
                ReasonerRequest(prepare_image(trial.grey, IMAGE_ENCODING), trial.query, "")
                for trial in asked[start : start + _BATCH]
            ]
        )
    found = []
    for trial, answer in zip(asked, answers, strict=True):
        box, evidence = answer.grounding.bbox_xyxy_px, answer.evidence
        if evidence is None or answer.confidence is None:
            continue
        if box is None:
            right = trial.bbox_xyxy_px is None
        else:
            right = trial.bbox_xyxy_px is not None and box_iou(box, trial.bbox_xyxy_px) > 0.5
        found.append(Judged(box is not None, answer.confidence, right, evidence))
    return found


def fit(judged: Sequence[Judged]) -> Logistic:
    """A logistic regression of standardised evidence.

    Raises:
        ValueError: all answers are right, or none is.
    """
    from sklearn.linear_model import LogisticRegression

    table = np.array([astuple(each.evidence) for each in judged])
    mean, scale = table.mean(0), np.maximum(table.std(0), 1e-6)
    right = [each.right for each in judged]
    model = LogisticRegression(max_iter=1000).fit((table - mean) / scale, right)
    weights = tuple(float(weight) for weight in model.coef_[0])
    return Logistic(
        tuple(mean.tolist()), tuple(scale.tolist()), weights, float(model.intercept_[0])
    )


def figures(judged: Sequence[Judged]) -> dict:
    """AUROC and expected calibration error of the confidence, of boxes and of absences."""
    from sklearn.metrics import roc_auc_score

    found: dict[str, dict] = {}
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


def calibrate(settings: Settings) -> dict:
    """Fit and write ``calibration.json``; returns its figures on what it was fitted on."""
    pictures = training_pictures(Path(settings.real_data)) if settings.real_data else ()
    asker = Asker(QuestionWriter(held_out_languages=()), pictures, "validation")
    reasoner = load_transformers_reasoner(settings.model, device="cpu")
    judged = judge(reasoner, list(trials(asker, settings.questions)))
    calibration = Calibration(
        fit([each for each in judged if each.present]),
        fit([each for each in judged if not each.present]),
        f"{len(judged)} answers about phantoms and real images, questions of the validation split",
    )
    text = json.dumps(asdict(calibration), indent=1) + "\n"
    write_durably(Path(settings.model) / CALIBRATION_FILE, text)
    return figures([_calibrated(each, calibration) for each in judged])


def _calibrated(judged: Judged, calibration: Calibration) -> Judged:
    chance = calibration.probability(judged.evidence, present=judged.present)
    return replace(judged, confidence=chance)


def main() -> None:
    """Command line entry point."""
    print(json.dumps(calibrate(command_line(Settings))))


if __name__ == "__main__":
    main()
