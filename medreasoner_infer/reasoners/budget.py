# SPDX-License-Identifier: Apache-2.0
"""How long a reasoning trace may be so that the answer behind it always fits."""

from __future__ import annotations

from medreasoner_infer.answer import max_answer_bytes
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.reasoners.prompts import PromptTemplate

QUERY_TOKENS = 128
# What a follow-up question goes on from, with a name of 64 characters.
FOLLOW_UP_TOKENS = 160
_CHARS_PER_PROMPT_TOKEN = 2
_END_TOKENS = 1


def reasoning_chars(
    template: PromptTemplate, wanted: int, *, context: int, image_tokens: int, frame: AnswerFrame
) -> int:
    """The bound on the trace: ``wanted`` characters, or fewer where the context is short.

    Every character is reckoned as the four tokens that it can take at worst, and the template as
    one token per two characters, with room for a question of ``QUERY_TOKENS`` and, where the prompt
    takes it, for what a question follows up on.

    Args:
        template: the prompt; one that asks for no trace gets 0.
        wanted: bound that the caller would like.
        context: tokens of prompt and completion together that the model can hold.
        image_tokens: tokens that the image takes in the prompt.
        frame: how the model writes coordinates.
    """
    if not template.asks_reasoning:
        return 0
    units = frame.units
    text = len("".join(template.told(frame))) // _CHARS_PER_PROMPT_TOKEN + QUERY_TOKENS
    text += FOLLOW_UP_TOKENS if template.takes_follow_ups else 0
    fixed = image_tokens + text + max_answer_bytes(units, 0) + _END_TOKENS
    per_char = max_answer_bytes(units, 1) - max_answer_bytes(units, 0)
    return max(1, min(wanted, (context - fixed) // per_char))


def completion_tokens(units: int, chars: int) -> int:
    """Tokens that always suffice for an answer with a trace of ``chars`` characters.

    Args:
        units: what the side of the image counts in answers.
        chars: bound on the trace.
    """
    return max_answer_bytes(units, chars) + _END_TOKENS
