# SPDX-License-Identifier: Apache-2.0
"""What a row's licence says of training."""

from __future__ import annotations

import re

# NC as a part of a licence's name, not within a word.
_RESTRICTED = re.compile(
    r"(?<![a-z])nc(?![a-z])|non-?\s?commercial|(?:research|academic|education\w*|evaluation)"
    r"(?:\s+use)?\s+only",
    re.IGNORECASE,
)


def is_non_commercial(licence: str) -> bool:
    """Whether a licence excludes commercial use by its words: ``CC-BY-NC-4.0``, *research only*."""
    return _RESTRICTED.search(licence) is not None


def may_train(licence: str, told: bool | None) -> bool | None:
    """What was told, but never yes under a non-commercial licence; ``None`` if nobody knows."""
    return False if is_non_commercial(licence) else told
