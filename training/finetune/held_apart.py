# SPDX-License-Identifier: Apache-2.0
"""Training rows whose image is a held-out one, or nearly: what is judged must not be learnt."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_training.finetune.errors import TooFewSamplesError
from medreasoner_training.samples.fingerprints import Fingerprint, fingerprint, have_alike

if TYPE_CHECKING:
    from datasets import Dataset

_log = logging.getLogger(__name__)


def apart_from(held_out: Dataset, training: Dataset) -> Dataset:
    """The training rows whose image is not alike to one that is held out; the others are counted.

    Raises:
        TooFewSamplesError: none is left.
    """
    alike = have_alike(_prints(training), _prints(held_out))
    count = int(alike.sum())
    if not count:
        return training
    if count == len(training):
        raise TooFewSamplesError(
            f"All {count} training samples show images that are those of held-out samples, or "
            "nearly: copies count as patients of their own. Tell whose images they are in "
            "patients.csv, and export again."
        )
    _log.warning(
        "%d of %d training samples show images that are those of held-out samples, or nearly; "
        "they are not learnt from.",
        count,
        len(training),
    )
    return training.select(np.flatnonzero(~alike))


def _prints(rows: Dataset) -> list[Fingerprint]:
    pictures = (row["images"][0] for row in rows.select_columns("images"))
    return [fingerprint(np.asarray(picture.convert("L"))) for picture in pictures]
