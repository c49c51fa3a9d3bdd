# SPDX-License-Identifier: Apache-2.0
"""Which patients of the site train and which are held out, kept from one export to the next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.errors import InputError
from medreasoner_training.samples import TRAIN, assign_splits
from monailabel_app.export.sides import assign_together

SPLITS_NAME = "export.splits.json"
_SCHEMA = TypeAdapter(dict[str, Literal["train", "validation"]])


def keep_splits(folder: Path, leaders: Mapping[str, str], val_share: float) -> dict[str, str]:
    """The split of each patient and image, as :func:`assign_splits`; written down first.

    Who stood on a side before stays there. Where some of a group were learnt from and others
    held out, as when it turns out later that they are one person's, all train: nobody is held out
    who may have been learnt from. A share of 0 holds nobody out and leaves what was written.

    Args:
        folder: where the site's salt lies; the file holds pseudonyms only.
        leaders: of each pseudonym of this export, the one that stands for its group.
        val_share: share of the groups that validate.

    Raises:
        InputError: the file is damaged.
        SampleSettingsError, TooFewPatientsError: as :func:`assign_splits`.
    """
    if not val_share:
        return assign_together(leaders, val_share)
    path = folder / SPLITS_NAME
    with FileLock(folder / f".{SPLITS_NAME}.lock"):
        known = _read(path)
        splits = assign_splits(set(leaders.values()), val_share, _of_groups(leaders, known))
        found = {key: splits[leader] for key, leader in leaders.items()}
        if any(known.get(key) != split for key, split in found.items()):
            text = json.dumps(known | found, indent=0, sort_keys=True)
            write_durably(path, text + "\n")
    return found


def _of_groups(leaders: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """The split of each leader of whose group one was assigned before."""
    found: dict[str, str] = {}
    for key, leader in leaders.items():
        if key in known and found.get(leader) != TRAIN:
            found[leader] = known[key]
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
