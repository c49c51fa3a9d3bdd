# SPDX-License-Identifier: Apache-2.0
"""What is recorded of a follow-up question: how it was read, and what was measured for it."""

from __future__ import annotations

from dataclasses import dataclass

from medreasoner_infer.language.follow_up_words import Quantity
from medreasoner_infer.measuring.measured import Measured


@dataclass(frozen=True)
class FollowUpReading:
    """How a question that refers to an earlier answer was read.

    Attributes:
        read_as: what it comes to, in words for the reader: ``segment the right kidney``.
        asked: the question that the model was asked in place of the reader's; ``None`` where it was
            asked none.
        target: the vocabulary's name of what it is about, with the patient's side; ``None`` where
            that is not known.
        about_inference_id: of the earlier answer; ``None`` where the caller did not say.
        quantity: what was to be measured; ``None`` for nothing.
        measured: what was measured, on the mask of this record.
    """

    read_as: str
    asked: str | None = None
    target: str | None = None
    about_inference_id: str | None = None
    quantity: Quantity | None = None
    measured: Measured | None = None
