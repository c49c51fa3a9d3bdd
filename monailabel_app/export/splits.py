# SPDX-License-Identifier: Apache-2.0
"""Which patients of the site train and which are held out, kept from one export to the next."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.errors import InputError
from medreasoner_training.samples import assign_splits

SPLITS_NAME = "export.splits.json"
_SCHEMA = TypeAdapter(dict[str, Literal["train", "validation"]])


def keep_splits(folder: Path, patient_keys: Collection[str], val_share: float) -> dict[str, str]:
    """The split of each patient, as :func:`assign_splits`; written down before anything is.

    A patient once held out stays held out, and one who may have been learnt from is never held out
    later. A share of 0 holds nobody out and therefore leaves what was written as it is.

    Args:
        folder: where the site's salt lies; the file holds pseudonyms only.
        patient_keys: pseudonyms of the patients of this export.
        val_share: share of them that validate.

    Raises:
        InputError: the file is damaged.
        SampleSettingsError, TooFewPatientsError: as :func:`assign_splits`.
    """
    if not val_share:
        return assign_splits(patient_keys, val_share)
    path = folder / SPLITS_NAME
    with FileLock(folder / f".{SPLITS_NAME}.lock"):
        known = _read(path)
        found = assign_splits(patient_keys, val_share, known)
        if any(key not in known for key in found):
            text = json.dumps(known | found, indent=0, sort_keys=True)
            write_durably(path, text + "\n")
    return found


def _read(path: Path) -> dict[str, str]:
    try:
        return {**_SCHEMA.validate_json(path.read_bytes())}
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        raise InputError(
            f"{SPLITS_NAME} is damaged, so that nobody knows who was held out. Restore it from a "
            "backup. Without it patients are assigned anew, and a model that learnt from one who "
            "is then held out looks better than it is."
        ) from error
