# SPDX-License-Identifier: Apache-2.0
"""``python -m medreasoner_training.embedded.reasoner.calibrate --model DIR`` fits the confidence.

On phantoms of their own seeds and questions of the validation split, and on the real images that
may be trained on, in crops that were not. Writes ``calibration.json`` into the model folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from medreasoner_infer.answer import parse_answer
from medreasoner_infer.atomic import write_durably
from medreasoner_infer.reasoners import Reasoner, load_transformers_reasoner, prepare_image
from medreasoner_infer.reasoners.calibration import CALIBRATION_FILE
from medreasoner_infer.types import XYXY, ReasonerAnswer, ReasonerRequest
from medreasoner_training.calibrating import (
    Judged,
    calibrated,
    figures,
    fitted,
    judged_answer,
)

from ..questions import QuestionWriter
from ..required import command_line
from .asking import Asker
from .modelling import IMAGE_ENCODING
from .pictures import training_pictures
from .samples import SIZE_PX

SEED = 960_000
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
    judged = (
        judged_answer(answer, answer.grounding.bbox_xyxy_px, trial.bbox_xyxy_px)
        for trial, answer in zip(asked, answers, strict=True)
    )
    return [each for each in judged if each is not None]


def calibrate(settings: Settings) -> dict:
    """Fit and write ``calibration.json``; returns its figures on what it was fitted on."""
    pictures = training_pictures(Path(settings.real_data)) if settings.real_data else ()
    asker = Asker(QuestionWriter(held_out_languages=()), pictures, "validation")
    reasoner = load_transformers_reasoner(settings.model, device="cpu")
    judged = judge(reasoner, list(trials(asker, settings.questions)))
    calibration = fitted(
        judged,
        f"{len(judged)} answers about phantoms and real images, questions of the validation split",
    )
    text = json.dumps(asdict(calibration), indent=1) + "\n"
    write_durably(Path(settings.model) / CALIBRATION_FILE, text)
    return figures([calibrated(each, calibration) for each in judged])


def main() -> None:
    """Command line entry point."""
    print(json.dumps(calibrate(command_line(Settings))))


if __name__ == "__main__":
    main()
