# SPDX-License-Identifier: Apache-2.0
"""Which rows may be trained on."""

from __future__ import annotations

from medreasoner_training.evaluation.rows import EvaluationRow
from medreasoner_training.licences import is_non_commercial

SAID_NOT = "the data set says that it may not be trained on"
NON_COMMERCIAL = "its licence is for non-commercial use or research only"


def why_not_to_train_on(row: EvaluationRow) -> str | None:
    """The reason in words; ``None`` where nothing speaks against it.

    A licence that is not told forbids nothing here: whoever trains answers for the data.
    """
    if row.may_train is False:
        return SAID_NOT
    return NON_COMMERCIAL if is_non_commercial(row.licence) else None
