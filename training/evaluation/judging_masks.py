# SPDX-License-Identifier: Apache-2.0
"""Masks and the agreement of their readings about a data set, each set against the truth."""

from __future__ import annotations

from collections.abc import Callable

from medreasoner_infer.errors import AnswerError, InputError
from medreasoner_infer.imaging import slice_of_mask
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_training.calibrating_doubt import JudgedMask
from medreasoner_training.evaluation.pictures import Case, load_case
from medreasoner_training.evaluation.rows import RowSource
from medreasoner_training.evaluation.running import places_of
from medreasoner_training.rewards import dice


def judge_masks(
    pipeline: Pipeline,
    source: RowSource,
    samples: int,
    limit: int | None = None,
    on_answered: Callable[[int, int], None] | None = None,
) -> list[JudgedMask]:
    """Ask the questions of a data set as readers do who want several answers.

    Rows whose target has no mask, and questions that cannot be answered, are left out.

    Args:
        pipeline: of both models.
        source: the data set.
        samples: answers drawn for each question, at least 2.
        limit: so many questions, spread evenly; ``None`` asks all.
        on_answered: called with (done, all).

    Raises:
        InputError: fewer than two answers are to be drawn.
        EvaluationDataError: a row cannot be used.
        ServiceError: a model cannot answer now.
    """
    if samples < 2:
        raise InputError(f"{samples} answers tell no doubt; expected 2 or more.")
    places, found = places_of(source.count, limit), []
    for done, row in enumerate(source.read(places), start=1):
        judged = _judged(pipeline, load_case(row, pipeline.reasoner.input_size), samples)
        if judged is not None:
            found.append(judged)
        if on_answered is not None:
            on_answered(done, len(places))
    return found


def _judged(pipeline: Pipeline, case: Case, samples: int) -> JudgedMask | None:
    if case.truth is not None and case.mask is None:
        return None
    mapping = case.shown.mapping
    selection = SliceSelection(plane=mapping.plane.value, index=mapping.index)
    request = AskRequest(case.row.question, selection, samples=samples)
    try:
        result = pipeline.ask(case.shown.volume, request)
    except (AnswerError, InputError):
        return None
    if result.doubt is None:
        return None
    mask = slice_of_mask(result.mask_ijk, mapping)
    overlap = float(not mask.any()) if case.mask is None else dice(mask, case.mask)
    iou = result.mask.predicted_iou if mask.any() else None
    return JudgedMask(
        result.doubt.agreement,
        overlap,
        iou,
        case.row.patient or case.row.id,
        result.outcome != "not_understood",
    )
