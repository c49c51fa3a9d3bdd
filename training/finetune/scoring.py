# SPDX-License-Identifier: Apache-2.0
"""Greedy answers of a served reasoner to held-out samples, scored for the gate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.errors import AnswerError, InputError, PromptError
from medreasoner_infer.reasoners.base import Reasoner, answers_or_faults
from medreasoner_infer.reasoners.image_encoding import prepare_image
from medreasoner_infer.scaling import rescale
from medreasoner_infer.segmenters.base import Segmenter
from medreasoner_infer.types import (
    XY,
    Grounding,
    ReasonerAnswer,
    ReasonerRequest,
    SliceImage,
    SlicePrompt,
)
from medreasoner_training.finetune.raw_samples import (
    RawSample,
    read_sample,
    scale_image,
    scale_mask,
)
from medreasoner_training.gate import HeldOut, ModelScores
from medreasoner_training.rewards import dice
from medreasoner_training.rewards.point_terms import measure_points

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 8
OnScored = Callable[[int, int], None]
#: Given the place of a first row and the answers to it and the rows behind it, or their faults.
OnAnswers = Callable[[int, Sequence[ReasonerAnswer | AnswerError]], None]


@dataclass(frozen=True)
class Outcome:
    """What one answer was worth; the last four are 0 where they do not apply.

    Attributes:
        failed: it could not be read.
        said_absent: it says that the target is not present; a question that was not understood is
            neither failed nor absent, and has no box.
        box_iou: with the true box, 0...1.
        mask_dice: of the segmenter's mask with the true one, 0...1; 0 if no mask was made.
        points_dice: of the discs whose diameters the key points and the true ones are, 0...1.
        points_inside: share of the two key points that lie in the true mask.
    """

    failed: bool
    said_absent: bool
    box_iou: float = 0.0
    mask_dice: float = 0.0
    points_dice: float = 0.0
    points_inside: float = 0.0


@dataclass(frozen=True)
class SquareSegmenter:
    """A frozen segmenter on letterboxed squares, prompted in pixels of another square.

    Attributes:
        segmenter: the model.
        prompt_size: side of the square that prompts speak of, in px.
    """

    segmenter: Segmenter
    prompt_size: int

    def __call__(self, image: object, prompt: SlicePrompt) -> np.ndarray:
        """Mask, bool (S, S), of a square image; empty where the prompt lies outside it."""
        pixels = np.asarray(image)
        scaled = rescale(prompt, len(pixels) / self.prompt_size)
        key = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
        try:
            return self.segmenter.segment_slice(SliceImage(pixels, (1.0, 1.0), key), scaled).mask
        except PromptError:
            return np.zeros(pixels.shape[:2], bool)


def held_out_of(raw: Dataset) -> HeldOut:
    """Patients, labels and presence of the rows of a split."""
    info = raw["extra_info"]
    return HeldOut(
        patients=np.array([each["patient_key"] for each in info]),
        labels=np.array([each["category"] for each in info]),
        present=np.array([bool(each["present"]) for each in info]),
    )


def score_reasoner(
    reasoner: Reasoner,
    raw: Dataset,
    *,
    name: str,
    segmenter: Segmenter | None = None,
    on_scored: OnScored | None = None,
    on_answers: OnAnswers | None = None,
) -> ModelScores:
    """What the gate compares of a reasoner's answers to every row of a split.

    Args:
        reasoner, raw, segmenter, on_scored, on_answers: as in :func:`answer_rows`.
        name: of the model, for the scores.

    Raises:
        ServiceError: the reasoner or the segmenter cannot answer now.
    """
    outcomes = answer_rows(
        reasoner, raw, segmenter=segmenter, on_scored=on_scored, on_answers=on_answers
    )
    return model_scores(outcomes, name, with_masks=segmenter is not None)


def answer_rows(
    reasoner: Reasoner,
    raw: Dataset,
    *,
    segmenter: Segmenter | None = None,
    on_scored: OnScored | None = None,
    on_answers: OnAnswers | None = None,
) -> list[Outcome]:
    """Let a reasoner answer every row of a split greedily.

    Images are scaled to what the reasoner reads, so that reasoners of different sizes compare.

    Args:
        reasoner: any engine; it decodes as it does when it is served.
        raw: rows of the data set folder.
        segmenter: makes the mask of each answer; without one ``mask_dice`` is 0.
        on_scored: called with (rows done, all rows).
        on_answers: called with the answers of each batch, before it is scored.

    Raises:
        ServiceError: the reasoner or the segmenter cannot answer now.
    """
    outcomes: list[Outcome] = []
    for start in range(0, len(raw), BATCH):
        rows = range(start, min(start + BATCH, len(raw)))
        samples = [read_sample(raw[row]) for row in rows]
        squares = [scale_image(sample.image, reasoner.input_size) for sample in samples]
        answers = _ask(reasoner, squares, samples)
        if on_answers is not None:
            on_answers(start, answers)
        outcomes += _score_batch(squares, samples, answers, segmenter)
        if on_scored is not None:
            on_scored(len(outcomes), len(raw))
    return outcomes


def model_scores(outcomes: Sequence[Outcome], name: str, *, with_masks: bool) -> ModelScores:
    """The gate's arrays; ``mask_dice`` only ``with_masks``."""
    return ModelScores(
        name=name,
        failed=np.array([outcome.failed for outcome in outcomes], bool),
        said_absent=np.array([outcome.said_absent for outcome in outcomes], bool),
        box_iou=np.array([outcome.box_iou for outcome in outcomes], float),
        mask_dice=np.array([o.mask_dice for o in outcomes], float) if with_masks else None,
    )


def mean_iou(scores: ModelScores, held_out: HeldOut) -> float | None:
    """Mean box IoU over the present targets, 0...1; ``None`` without any."""
    present = np.asarray(held_out.present)
    return float(scores.box_iou[present].mean()) if present.any() else None


def _score_batch(
    squares: Sequence[np.ndarray],
    samples: Sequence[RawSample],
    answers: Sequence[ReasonerAnswer | AnswerError],
    segmenter: Segmenter | None,
) -> Iterator[Outcome]:
    for square, sample, answer in zip(squares, samples, answers, strict=True):
        grounding = None if isinstance(answer, AnswerError) else answer.grounding
        yield _outcome(square, sample, grounding, segmenter)


def _ask(
    reasoner: Reasoner, squares: Sequence[np.ndarray], samples: Sequence[RawSample]
) -> list[ReasonerAnswer | AnswerError]:
    """One answer per sample, or why it cannot be read.

    Raises:
        InputError: a question does not fit the reasoner.
    """
    requests = [
        ReasonerRequest(prepare_image(square, reasoner.image_encoding), sample.query, "")
        for square, sample in zip(squares, samples, strict=True)
    ]
    found: list[ReasonerAnswer | AnswerError] = []
    for answer in answers_or_faults(reasoner, requests):
        if isinstance(answer, InputError):
            raise answer
        found.append(answer)
    return found


def _outcome(
    square: np.ndarray, sample: RawSample, grounding: Grounding | None, segmenter: Segmenter | None
) -> Outcome:
    if grounding is None or grounding.bbox_xyxy_px is None or grounding.points_xy_px is None:
        return Outcome(grounding is None, grounding is not None and grounding.outcome == "absent")
    truth = sample.truth and rescale(sample.truth, len(square) / len(sample.image))
    if truth is None:
        return Outcome(False, False)
    box, points = grounding.bbox_xyxy_px, grounding.points_xy_px
    true_mask, overlap = scale_mask(sample.mask, len(square)), 0.0
    if segmenter is not None:
        mask = SquareSegmenter(segmenter, len(square))(square, SlicePrompt(box, points, (1, 1)))
        # A target thinner than the square's pixels leaves no true mask; none found earns nothing.
        overlap = float(np.nan_to_num(dice(mask, true_mask)))
    return Outcome(
        False,
        False,
        box_iou=float(box_iou(box, truth.bbox_xyxy_px)),
        mask_dice=overlap,
        points_dice=measure_points(points, truth, hard=False).disc_dice,
        points_inside=float(np.mean([_lies_in(point, true_mask) for point in points])),
    )


def _lies_in(point_xy_px: XY, mask: np.ndarray) -> bool:
    """Whether the pixel that holds a point belongs to the mask; the world outside does not."""
    column, row = math.floor(point_xy_px[0]), math.floor(point_xy_px[1])
    height, width = mask.shape
    return 0 <= row < height and 0 <= column < width and bool(mask[row, column])
