# SPDX-License-Identifier: Apache-2.0
"""What became of a question, refusals and faults included."""

from __future__ import annotations

import re
from typing import Literal, get_args

from medreasoner_infer.answer.errors import MissingAnswerError
from medreasoner_infer.errors import AnswerError, InputError
from medreasoner_infer.types import ReasonerAnswer

Reply = ReasonerAnswer | AnswerError | InputError
Outcome = Literal["present", "absent", "not_understood", "refused", "failed"]
"""Those of an answer, and of a text that is none: the model declined, or kept to no format."""
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

_REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|unable to|can(?:no|['’])t|can not|not able to|decline|"
    r"won['’]t|as an ai|consult (?:a|your))\b",
    re.IGNORECASE,
)


def outcome_of(reply: Reply) -> Outcome:
    """The outcome of a reply.

    A text without any answer block in which the model excuses itself is a refusal; any other text
    that cannot be read has failed, and so has a question that the model cannot be asked.
    """
    if isinstance(reply, ReasonerAnswer):
        return reply.grounding.outcome
    if isinstance(reply, MissingAnswerError) and _REFUSAL.search(reply.completion or ""):
        return "refused"
    return "failed"
