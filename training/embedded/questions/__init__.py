# SPDX-License-Identifier: Apache-2.0
"""Questions in a user's own words, made from the clinical vocabulary."""

from __future__ import annotations

from .known import known_names
from .question import KINDS, SPLITS, Kind, Question, Split
from .sets import question_set
from .writer import QuestionWriter

__all__ = [
    "KINDS",
    "SPLITS",
    "Kind",
    "Question",
    "QuestionWriter",
    "Split",
    "known_names",
    "question_set",
]
