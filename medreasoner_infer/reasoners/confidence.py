# SPDX-License-Identifier: Apache-2.0
"""How sure a model is of an answer block."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

# Not the digits of a key, such as "points_1".
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")


@dataclass(frozen=True)
class ScoredText:
    """Text and natural log probability of each token of a text, in its order."""

    pieces: tuple[str, ...]
    logprobs: tuple[float, ...]

    def of_a_number(self) -> float | None:
        """Mean log probability with which a number of the answer block is written.

        Models differ in how many tokens they write a number with; each number counts once.
        ``None`` where there is no answer block, or no number in it.
        """
        text = "".join(self.pieces)
        start = text.rfind("<answer>")
        end = text.find("</answer>", start)
        if start < 0:
            return None
        end = len(text) if end < 0 else end
        numbers = [found.span() for found in _NUMBER.finditer(text, start, end)]
        total, offset = 0.0, 0
        for piece, logprob in zip(self.pieces, self.logprobs, strict=True):
            behind = offset + len(piece)
            if any(first < behind and offset < last for first, last in numbers):
                total += logprob
            offset = behind
        return total / len(numbers) if numbers else None


def answer_confidence(pieces: Sequence[str], logprobs: Sequence[float]) -> float | None:
    """Geometric mean probability of the tokens from ``<answer>`` to ``</answer>``.

    Args:
        pieces: text of each generated token.
        logprobs: natural log probability of each, under the unconstrained model.

    Returns:
        0...1, or ``None`` when there is no answer block.

    Raises:
        ValueError: if the two differ in length.
    """
    text = "".join(pieces)
    start = text.rfind("<answer>")
    end = text.find("</answer>", start)
    if start < 0:
        return None
    end = len(text) if end < 0 else end + len("</answer>")
    inside, offset = [], 0
    for piece, logprob in zip(pieces, logprobs, strict=True):
        if offset < end and offset + len(piece) > start:
            inside.append(logprob)
        offset += len(piece)
    return math.exp(sum(inside) / len(inside))
