# SPDX-License-Identifier: Apache-2.0
"""The questions of a batch to the reasoner."""

from __future__ import annotations

from collections.abc import Sequence

from medreasoner_infer.reasoners import Reasoner, answers_or_faults
from medreasoner_infer.stopwatch import Stopwatch
from medreasoner_training.evaluation.outcomes import Reply
from medreasoner_training.evaluation.pictures import Case


def answer_cases(reasoner: Reasoner, cases: Sequence[Case]) -> tuple[list[Reply], float]:
    """A reply to each question, asked as one batch and greedily, and the seconds of each.

    Raises:
        ServiceError: the reasoner cannot answer now.
    """
    watch = Stopwatch()
    with watch.stage("reason"):
        requests = [
            case.shown.request(case.row.question, reasoner.image_encoding, modality=case.modality)
            for case in cases
        ]
        replies = answers_or_faults(reasoner, requests)
    return replies, round(watch.timings_s()["reason"] / len(cases), 4)
