# SPDX-License-Identifier: Apache-2.0
"""A reasoner's answers about a data set, each set against the truth, for its calibration."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from medreasoner_infer.reasoners import Reasoner
from medreasoner_infer.types import ReasonerAnswer
from medreasoner_training.calibrating import CalibrationError, Judged, judged_answer
from medreasoner_training.evaluation.answering import answer_cases
from medreasoner_training.evaluation.measuring import located
from medreasoner_training.evaluation.pictures import load_case
from medreasoner_training.evaluation.rows import RowSource
from medreasoner_training.evaluation.running import places_of

_BATCH = 8


def judge_rows(
    reasoner: Reasoner,
    source: RowSource,
    limit: int | None = None,
    on_answered: Callable[[int, int], None] | None = None,
) -> list[Judged]:
    """The answers to the questions of a data set.

    Raises:
        CalibrationError: the reasoner tells no probabilities of its own, as behind a server.
        EvaluationDataError: a row cannot be used.
        ServiceError: the reasoner cannot answer now.
    """
    places, found, done = places_of(source.count, limit), [], 0
    cases = (load_case(row, reasoner.input_size) for row in source.read(places))
    answered = False
    while batch := list(islice(cases, _BATCH)):
        for case, reply in zip(batch, answer_cases(reasoner, batch)[0], strict=True):
            if not isinstance(reply, ReasonerAnswer):
                continue
            answered |= reply.evidence is not None
            box = located(reply.grounding, case).bbox_xyxy_px
            truth = None if case.truth is None else case.truth.bbox_xyxy_px
            found.append(judged_answer(reply, box, truth, case.row.patient or case.row.id))
        done += len(batch)
        if on_answered is not None:
            on_answered(done, len(places))
    if not answered:
        raise CalibrationError(
            f"{reasoner.identity.name} tells no probabilities of its answers, as a reasoner behind "
            "a server. Load it here, without --reasoner-url."
        )
    return [each for each in found if each is not None]
