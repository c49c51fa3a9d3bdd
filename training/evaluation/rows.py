# SPDX-License-Identifier: Apache-2.0
"""The one row type that every format is read into."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Encoded = Path | bytes
"""A picture that is not opened yet: a file, or the bytes of one."""


@dataclass(frozen=True, eq=False)
class EvaluationRow:
    """A question about an image, and where its answer is to be found.

    Attributes:
        id: as the data set tells it.
        question: in words.
        image: the picture.
        mask: of the target on the image's pixels; ``None`` where the target is absent or the data
            set has no mask of it.
        ground_truth: JSON text with box and key points in pixels of the image, ``null`` for an
            absent target; ``None`` where the mask tells them.
        category: name of the target.
        super_category: of the category.
        modality: in the data set's words.
        patient: pseudonym; empty where the data set tells none.
        licence: of the row.
        split: that the row belongs to; empty where the data set tells none.
        may_train: whether its licence lets it be trained on; ``None`` where nobody has said.
        kind: ``implicit`` or ``explicit``; empty where the data set does not tell.
        language: of the question, e.g. ``en``; empty likewise.
        reasoning: a trace that leads to the target; empty likewise.
    """

    id: str
    question: str
    image: Encoded
    mask: Encoded | None
    ground_truth: str | None = None
    category: str = ""
    super_category: str = ""
    modality: str = ""
    patient: str = ""
    licence: str = ""
    split: str = ""
    may_train: bool | None = None
    kind: str = ""
    language: str = ""
    reasoning: str = ""


@dataclass(frozen=True, eq=False)
class RowSource:
    """A data set, read row by row.

    Attributes:
        name: what reports call it; no path.
        split: the split that was taken; ``all`` for everything.
        fingerprint: SHA-256 by which a run is resumed with the same data only.
        count: number of rows.
        read: yields the rows at some places, in rising order, from 0.
        splits: all that the data set has; an empty name is of rows that belong to none.
    """

    name: str
    split: str
    fingerprint: str
    count: int
    read: Callable[[Sequence[int]], Iterator[EvaluationRow]]
    splits: frozenset[str] = frozenset({""})

    @classmethod
    def of_list(
        cls,
        name: str,
        split: str,
        fingerprint: str,
        rows: Sequence[EvaluationRow],
        splits: frozenset[str],
    ) -> RowSource:
        """Rows that are in memory, their pictures not."""
        return cls(
            name, split, fingerprint, len(rows), lambda at: (rows[place] for place in at), splits
        )


def text_sha256(*texts: str) -> str:
    """SHA-256 over texts, in which their borders count."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
