# SPDX-License-Identifier: Apache-2.0
"""Learning from any data set that an evaluation reads, without a site's studies.

:func:`learning_set` makes the folder that :mod:`medreasoner_training.finetune` trains on. What may
not be trained on stays out and is counted, see
:mod:`medreasoner_training.learning.permission`; no patient is on both sides of the split.
"""

from __future__ import annotations

from medreasoner_training.learning.making import (
    LearningPlan,
    LearningSettings,
    learning_set,
    planned_learning_set,
    require_same_data,
)
from medreasoner_training.learning.permission import why_not_to_train_on

__all__ = [
    "LearningPlan",
    "LearningSettings",
    "learning_set",
    "planned_learning_set",
    "require_same_data",
    "why_not_to_train_on",
]
