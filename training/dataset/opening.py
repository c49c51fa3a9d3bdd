# SPDX-License-Identifier: Apache-2.0
"""A row's pictures in their own pixels, without the square that a reasoner would read."""

from __future__ import annotations

from medreasoner_training.evaluation import EvaluationRow
from medreasoner_training.evaluation.pictures import Case, load_case

_LEAST_SIZE_PX = 28


def open_case(row: EvaluationRow) -> Case:
    """Open a row's pictures.

    Raises:
        EvaluationDataError: one cannot be read, or they do not fit each other.
    """
    return load_case(row, _LEAST_SIZE_PX)
