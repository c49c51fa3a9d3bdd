# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with an answer, one type for each fault.

Messages hold numbers and positions but no sentence of the completion, since a reasoning trace may
repeat the question.
"""

from __future__ import annotations

from medreasoner_infer.errors import AnswerError


class MissingReasoningError(AnswerError):
    """There is no ``<think>`` block, or it is empty."""


class MissingAnswerError(AnswerError):
    """There is no ``<answer>`` block, or it is not closed."""


class ExtraTextError(AnswerError):
    """Text stands outside the two blocks, or around the JSON in the answer block."""


class NotJsonError(AnswerError):
    """The answer block does not hold one JSON object or ``null``."""


class MissingKeyError(AnswerError):
    """``bbox``, ``points_1`` or ``points_2`` is absent."""


class UnexpectedKeyError(AnswerError):
    """The answer holds a key that the format does not know, or one key twice."""


class MalformedBoxError(AnswerError):
    """The box is not a list of four numbers."""


class MalformedPointError(AnswerError):
    """A key point is not a list of two numbers."""


class NotFiniteError(AnswerError):
    """A coordinate is NaN, infinite, or too large for a float."""


class OutsideImageError(AnswerError):
    """A box or a point lies outside the image."""


class ReversedCornersError(AnswerError):
    """The box has x2 < x1 or y2 < y1."""


class DegenerateBoxError(AnswerError):
    """The box has no area inside the image."""
