# SPDX-License-Identifier: Apache-2.0
"""What a submitted label says of the answer: accepted as it was, or edited."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import Volume, load_volume
from monailabel_app.common.fields import read_choice, read_text
from monailabel_app.dicom.documents import submitted_values
from monailabel_app.store import Decision, InferenceRecord, LabelSubmission, Outcome

# The server's own word on who submits; what a client says under it is never believed.
READER_KEY = "reader"
_CHOICES = tuple(outcome.value for outcome in Outcome)


def stated_decision(values: Mapping[str, Any], reader: str | None = None) -> Decision | None:
    """The decision that a client states as ``outcome`` and ``outcome_reason``, if it does.

    Raises:
        InputError: the outcome is none of accepted, edited and rejected.
    """
    outcome = read_choice(values, "outcome", _CHOICES)
    if outcome is None:
        return None
    now = datetime.now(timezone.utc)
    return Decision(Outcome(outcome), read_text(values, "outcome_reason"), now, reader)


def require_acceptable(record: InferenceRecord, decision: Decision) -> None:
    """Let nobody accept that a question was not understood: it would stand for "not present".

    Raises:
        InputError: in that case.
    """
    if decision.outcome is Outcome.ACCEPTED and not record.can_be_accepted:
        raise InputError(
            "The question was not understood, so there is no answer to accept; ask it in other "
            "words, mark the target, or reject the answer."
        )


def label_overlap(values_ijk: np.ndarray, mask_file: Path) -> float | None:
    """The greatest Dice coefficient of a value of a label (I, J, K) with a mask in a file.

    ``None`` where there is nothing to compare: the label is empty, or the mask of another size.

    Raises:
        UnreadableImageError: the mask cannot be read.
    """
    mask_ijk = load_volume(mask_file).array > 0
    values = np.unique(values_ijk[values_ijk > 0])
    if mask_ijk.shape != values_ijk.shape or len(values) == 0:
        return None
    common = (np.count_nonzero(mask_ijk & (values_ijk == value)) for value in values)
    sizes = (np.count_nonzero(values_ijk == value) + mask_ijk.sum() for value in values)
    return max(2 * both / all_ for both, all_ in zip(common, sizes, strict=True))


def decision_by_label(
    label: LabelSubmission, record: InferenceRecord, volume: Volume
) -> Decision | None:
    """What the client states with its label; else told by comparing it with the inferred mask.

    ``None`` where the inferred mask is not kept any more, so that nobody can tell.

    Raises:
        InputError: the label cannot be read, is on no grid of the image, states nonsense, or
            accepts an answer that says nothing.
    """
    reader = read_text(label.info, READER_KEY)
    decision = stated_decision(label.info, reader) or _compared(label, record, volume, reader)
    if decision is not None:
        require_acceptable(record, decision)
    return decision


def _compared(
    label: LabelSubmission, record: InferenceRecord, volume: Volume, reader: str | None
) -> Decision | None:
    submitted = submitted_values(label, volume)
    if submitted is None or record.mask_file is None:
        return None
    inferred = load_volume(record.mask_file).array > 0
    equal = np.array_equal(submitted > 0, inferred)
    outcome = Outcome.ACCEPTED if equal else Outcome.EDITED
    return Decision(outcome, None, datetime.now(timezone.utc), reader)
