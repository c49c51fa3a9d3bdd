# SPDX-License-Identifier: Apache-2.0
"""Which rows may be trained on."""

from __future__ import annotations

import re

from medreasoner_training.evaluation.rows import EvaluationRow

SAID_NOT = "the data set says that it may not be trained on"
NON_COMMERCIAL = "its licence is for non-commercial use or research only"
# NC as a part of a licence's name, not within a word.
_RESTRICTED = re.compile(
    r"(?<![a-z])nc(?![a-z])|non-?\s?commercial|(?:research|academic|education\w*|evaluation)"
    r"(?:\s+use)?\s+only",
    re.IGNORECASE,
)


def why_not_to_train_on(row: EvaluationRow) -> str | None:
    """The reason in words; ``None`` where nothing speaks against it.

    A licence that is not told forbids nothing here: whoever trains answers for the data.
    """
    if row.may_train is False:
        return SAID_NOT
    return NON_COMMERCIAL if _RESTRICTED.search(row.licence) else None
