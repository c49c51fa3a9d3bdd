# SPDX-License-Identifier: Apache-2.0
"""All statements of an answer, tested right after its mask is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.checks.measures import Scene
from medreasoner_infer.checks.statements import statements_in
from medreasoner_infer.checks.verdicts import verdict_of
from medreasoner_infer.checks_record import Checks
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import EarlierTarget, Outcome


def check_statements(
    reasoning: str,
    query: str,
    outcome: Outcome,
    shown: DisplayedSlice,
    mask_hw: NDArray[np.bool_],
    known: Sequence[EarlierTarget] = (),
) -> Checks:
    """Test what a reasoning says of the image; takes milliseconds and no model.

    Args:
        reasoning: the trace.
        query: what was asked.
        outcome: of the answer; who did not understand the question has said nothing of the image.
        shown: the slice that was read.
        mask_hw: the mask on it, bool (H, W) in slice px; empty where there is none.
        known: targets of other answers about the image, by which relations can be tested.
    """
    if outcome == "not_understood":
        return Checks(())
    scene = Scene(shown, mask_hw) if outcome == "present" and mask_hw.any() else None
    found = statements_in(reasoning, query)
    return Checks(tuple(verdict_of(statement, scene, known) for statement in found))
