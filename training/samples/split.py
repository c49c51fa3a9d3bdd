# SPDX-License-Identifier: Apache-2.0
"""Pseudonyms, and which patients train and which validate."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection

from medreasoner_training.samples.errors import SampleSettingsError, TooFewPatientsError

TRAIN = "train"
VALIDATION = "validation"
_KEY_DIGITS = 16


def pseudonym(identifier: str, salt: bytes) -> str:
    """16 hexadecimal digits that stand for ``identifier``: HMAC-SHA-256 (RFC 2104) under ``salt``.

    Without the salt, which stays at the site, an identifier can be neither read nor tried out.
    """
    return hmac.new(salt, identifier.encode(), hashlib.sha256).hexdigest()[:_KEY_DIGITS]


def assign_splits(patient_keys: Collection[str], val_share: float) -> dict[str, str]:
    """The split of each patient: all images of a patient stand in the same one.

    A patient validates if the pseudonym, read as a fraction, is below ``val_share``: a patient
    keeps the split however many others are added later. Only where this leaves a split empty does
    the patient nearest to the limit change sides.

    Args:
        patient_keys: of :func:`pseudonym`; repeated ones count once.
        val_share: share of the patients that validate, 0 (none do) or above, below 1.

    Raises:
        SampleSettingsError: the share is out of range.
        TooFewPatientsError: fewer than two patients are to be split, or there is none.
    """
    if not 0 <= val_share < 1:
        raise SampleSettingsError(f"The validation share is {val_share}; expected 0 to below 1.")
    patients = sorted(set(patient_keys))
    if len(patients) < (2 if val_share else 1):
        raise TooFewPatientsError(
            f"The approved labels come from {len(patients)} patient(s); a training and a "
            "validation split need at least 2, as no patient may stand in both. Approve labels of "
            "more patients, or leave the validation split out with a share of 0."
        )
    validating = sum(_fraction(key) < val_share for key in patients)
    if val_share:
        validating = min(max(validating, 1), len(patients) - 1)
    return {
        key: VALIDATION if rank < validating else TRAIN for rank, key in enumerate(patients)
    }  # fmt: skip


def _fraction(key: str) -> float:
    return int(key, 16) / (1 << 4 * _KEY_DIGITS)
