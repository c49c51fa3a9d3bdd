# SPDX-License-Identifier: Apache-2.0
"""How sure the model was of its answer block."""

from __future__ import annotations

import math
from collections.abc import Sequence


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
