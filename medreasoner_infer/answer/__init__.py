# SPDX-License-Identifier: Apache-2.0
"""The reasoner's answer format: reading it, writing it, and constraining a decoder to it.

    <think>…</think>
    <answer>{"bbox": [x1, y1, x2, y2], "points_1": [x, y], "points_2": [x, y]}</answer>

or, when the target is not on the image, ``<think>…</think><answer>null</answer>``, or, when the
question cannot be judged, ``<think>…</think><answer>"not understood"</answer>``. Coordinates are
*reasoner px*, edge based (see :mod:`medreasoner_infer.types`).
"""

from __future__ import annotations

from medreasoner_infer.answer.errors import (
    DegenerateBoxError,
    ExtraTextError,
    MalformedBoxError,
    MalformedPointError,
    MissingAnswerError,
    MissingKeyError,
    MissingReasoningError,
    NotFiniteError,
    NotJsonError,
    OutsideImageError,
    ReversedCornersError,
    UnexpectedKeyError,
)
from medreasoner_infer.answer.outcome_words import NOT_UNDERSTOOD
from medreasoner_infer.answer.parser import parse_answer
from medreasoner_infer.answer.pattern import (
    DEFAULT_REASONING_CHARS,
    answer_regex,
    max_answer_bytes,
)
from medreasoner_infer.answer.writer import format_answer

__all__ = [
    "DEFAULT_REASONING_CHARS",
    "NOT_UNDERSTOOD",
    "DegenerateBoxError",
    "ExtraTextError",
    "MalformedBoxError",
    "MalformedPointError",
    "MissingAnswerError",
    "MissingKeyError",
    "MissingReasoningError",
    "NotFiniteError",
    "NotJsonError",
    "OutsideImageError",
    "ReversedCornersError",
    "UnexpectedKeyError",
    "answer_regex",
    "format_answer",
    "max_answer_bytes",
    "parse_answer",
]
