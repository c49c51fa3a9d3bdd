# SPDX-License-Identifier: Apache-2.0
"""Going through the records of a site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from monailabel_app.audit.answers import AuditedAnswer, audited
from monailabel_app.audit.masks import MaskComparison
from monailabel_app.store import RecordStore
from monailabel_app.store.reading import DamagedRecord, Wanted


@dataclass(frozen=True)
class Audit:
    """What was found in the records.

    Attributes:
        wanted: which records were looked through.
        answers: in the order of recording.
        damaged: records that could not be read.
        unusable_masks: pairs of masks that could not be compared.
    """

    wanted: Wanted
    answers: tuple[AuditedAnswer, ...]
    damaged: tuple[DamagedRecord, ...]
    unusable_masks: int


def collect(
    store: RecordStore, wanted: Wanted, progress: Callable[[int, int], None] = lambda *_: None
) -> Audit:
    """Look through the records that are wanted.

    Args:
        store: of the site; nothing is written to it.
        wanted: which records.
        progress: is told how many of how many records were read.

    Raises:
        RecordStoreError: the records cannot be read.
    """
    compare = MaskComparison()
    answers: list[AuditedAnswer] = []
    damaged: list[DamagedRecord] = []
    ids = store.ids_of(wanted)
    for number, record in enumerate(store.each(ids), start=1):
        if isinstance(record, DamagedRecord):
            damaged.append(record)
        else:
            answers.append(audited(record, compare))
        progress(number, len(ids))
    return Audit(wanted, tuple(answers), tuple(damaged), compare.unusable)
