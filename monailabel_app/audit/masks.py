# SPDX-License-Identifier: Apache-2.0
"""The model's mask beside the one that the reader submitted for the same answer."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import load_volume
from medreasoner_training.rewards.overlap import dice
from monailabel_app.labels.grid import label_on_grid
from monailabel_app.labels.segments import answer_value, entries_by_value
from monailabel_app.store import InferenceRecord, JoinedBy, LabelRecord
from monailabel_app.store.pacs_queue import FINAL

logger = logging.getLogger(__name__)


class MaskComparison:
    """Compares masks in files, one pair in memory at a time.

    Attributes:
        compared: pairs that were compared.
        unusable: pairs of which a file is missing, cannot be read or is on another grid.
    """

    def __init__(self) -> None:
        self.compared = 0
        self.unusable = 0

    def __call__(self, record: InferenceRecord) -> float | None:
        """Dice of the model's mask with the reader's last final one, 0...1.

        ``None`` where the reader submitted none that certainly is of this answer, where the model's
        is not kept any more, or where both are empty.
        """
        label = submitted(record)
        if label is None or label.file is None or record.mask_file is None:
            return None
        try:
            value = _dice(record, record.mask_file, label, label.file)
        except InputError as error:
            logger.warning("The masks of a record could not be compared: %s", error)
            self.unusable += 1
            return None
        self.compared += 1
        return None if math.isnan(value) else value


def submitted(record: InferenceRecord) -> LabelRecord | None:
    """The last final label that was submitted for an answer, and surely for this one."""
    surely = [
        label
        for label in record.labels
        if label.tag == FINAL and label.joined_by is not JoinedBy.TIME_LATEST
    ]
    return surely[-1] if surely else None


def _dice(record: InferenceRecord, mask_file: Path, label: LabelRecord, label_file: Path) -> float:
    if label.sha256 is not None and label.sha256 == record.mask_sha256:
        return 1.0
    model = load_volume(mask_file)
    values_ijk = label_on_grid(load_volume(label_file), model)
    if values_ijk is None:
        raise InputError("The label has another size than the model's mask.")
    values = [int(value) for value in np.unique(values_ijk) if value > 0]
    answer = answer_value(entries_by_value(label.info.get("label_info")), values, record.id)
    inside = values_ijk > 0 if answer is None else values_ijk == answer
    return dice(model.array > 0, np.asarray(inside))
