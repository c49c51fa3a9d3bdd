# SPDX-License-Identifier: Apache-2.0
"""What a row's licence says of training."""

from __future__ import annotations

import re

_NON_COMMERCIAL = re.compile(r"\bnc\b|non-?\s?commercial|research only", re.IGNORECASE)


def is_non_commercial(licence: str) -> bool:
    """Whether a licence by its name excludes commercial use: ``CC-BY-NC-4.0``."""
    return _NON_COMMERCIAL.search(licence) is not None


def may_train(licence: str, told: bool | None) -> bool | None:
    """What was told, but never yes under a non-commercial licence; ``None`` if nobody knows."""
    return False if is_non_commercial(licence) else told
