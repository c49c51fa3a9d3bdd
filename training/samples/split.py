# SPDX-License-Identifier: Apache-2.0
"""Pseudonyms, and which patients train and which validate."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Collection, Mapping

from medreasoner_training.samples.errors import SampleSettingsError, TooFewPatientsError

TRAIN = "train"
VALIDATION = "validation"
_KEY_DIGITS = 16


def pseudonym(identifier: str, salt: bytes) -> str:
    """16 hexadecimal digits that stand for ``identifier``: HMAC-SHA-256 (RFC 2104) under ``salt``.

    Without the salt, which stays at the site, an identifier can be neither read nor tried out.
    """
    return hmac.new(salt, identifier.encode(), hashlib.sha256).hexdigest()[:_KEY_DIGITS]


def assign_splits(
    patient_keys: Collection[str], val_share: float, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The split of each patient: all images of a patient stand in the same one.

    So many patients validate that they are ``val_share`` of all, rounded up, and at least one on
    either side. Who was assigned before keeps the split; of the new patients those with the lowest
    pseudonyms validate, as many as are missing. Where those who validate are too many already, all
    new ones train; where new patients are too few, all of them validate.

    Args:
        patient_keys: of :func:`pseudonym`; repeated ones count once.
        val_share: share of the patients that validate, 0 (none do) or above, below 1.
        known: the split of patients who were assigned before, also of others than these.

    Raises:
        SampleSettingsError: the share is out of range.
        TooFewPatientsError: fewer than two patients are to be split, or there is none; or all of
            them were assigned to one side before.
    """
    if not 0 <= val_share < 1:
        raise SampleSettingsError(f"The validation share is {val_share}; expected 0 to below 1.")
    patients = sorted(set(patient_keys))
    if not patients:
        raise TooFewPatientsError(
            "There is no approved label to make a data set of. Approve labels of at least "
            f"{'two patients, one for each split' if val_share else 'one patient'}."
        )
    if val_share and len(patients) < 2:
        raise TooFewPatientsError(
            f"The approved labels come from {len(patients)} patient(s); a training and a "
            "validation split need at least 2, as no patient may stand in both. Approve labels of "
            "more patients, or leave the validation split out with a share of 0."
        )
    if not val_share:
        return dict.fromkeys(patients, TRAIN)
    found = {key: known[key] for key in patients if key in known} if known else {}
    new = [key for key in patients if key not in found]
    missing = _wanted(len(patients), val_share) - list(found.values()).count(VALIDATION)
    found |= {key: VALIDATION if rank < missing else TRAIN for rank, key in enumerate(new)}
    if len(set(found.values())) < 2:
        raise TooFewPatientsError(
            f"All {len(patients)} patients were assigned to the {found[patients[0]]} split by "
            "earlier exports, and nobody changes sides. Approve labels of more patients."
        )
    return found


def _wanted(patients: int, val_share: float) -> int:
    """How many of two or more patients validate; 0.2 of 100 are 20, whatever 0.2 is in binary."""
    return min(max(math.ceil(round(val_share * patients, 9)), 1), patients - 1)
