# SPDX-License-Identifier: Apache-2.0
"""The answers of a run, checked for their faithfulness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.checks.checking import check_statements
from medreasoner_infer.prompting import prompt_from_grounding
from medreasoner_infer.types import Grounding, ReasonerAnswer
from medreasoner_training.evaluation.answering import answer_cases
from medreasoner_training.evaluation.faithfulness import (
    RIGHT_BOX_IOU,
    CheckedAnswer,
    Faithfulness,
    faithfulness_of,
)
from medreasoner_training.evaluation.measuring import Masks, located
from medreasoner_training.evaluation.pictures import Case
from medreasoner_training.evaluation.predictions import Prediction
from medreasoner_training.evaluation.running import Run
from medreasoner_training.samples.slices import spread


def faithfulness_of_run(
    run: Run,
    predictions: Sequence[Prediction],
    count: int,
    on_done: Callable[[int, int], None] | None = None,
) -> Faithfulness:
    """Check answers of a run and ask the right ones again, see :mod:`.faithfulness`.

    Args:
        run: whose models are asked.
        predictions: all of its.
        count: so many answers with a box, spread evenly over the run.
        on_done: called with (right answers done, all of them).

    Raises:
        ServiceError: a model cannot answer now.
        EvaluationDataError: a row cannot be used.
    """
    with_box = [at for at, each in enumerate(predictions) if each.bbox is not None]
    chosen, places = spread(with_box, count) if with_box else [], run.places
    patients = {places[at]: predictions[at].patient for at in chosen}
    answers = [*_checked(run, patients)]
    return faithfulness_of(run.reasoner, answers, on_done=on_done)


def _checked(run: Run, patients: dict[int, str]) -> Iterator[CheckedAnswer]:
    """The answers to the rows at some places that have a box, with whom each is of."""
    for case, patient in zip(run.cases(list(patients)), patients.values(), strict=True):
        (reply,), _ = answer_cases(run.reasoner, [case])
        if not isinstance(reply, ReasonerAnswer) or not reply.grounding.present:
            continue
        said, question = reply.grounding, case.row.question
        mask = _mask(run, case, said)
        checks = check_statements(said.reasoning, question, "present", case.shown, mask)
        yield CheckedAnswer(
            case.shown, question, said, mask, checks, _is_right(case, said), patient,
            case.row.modality,
        )  # fmt: skip


def _mask(run: Run, case: Case, said: Grounding) -> NDArray[np.bool_]:
    sourced = prompt_from_grounding(said, (), case.shown.mapping)
    mask = None if sourced is None else Masks(case, run.segmenter).of(sourced.prompt, "both")
    return np.zeros(case.shown.mapping.shape_hw, bool) if mask is None else mask


def _is_right(case: Case, said: Grounding) -> bool:
    box = located(said, case).bbox_xyxy_px
    if case.truth is None or box is None:
        return False
    return box_iou(box, case.truth.bbox_xyxy_px) >= RIGHT_BOX_IOU
