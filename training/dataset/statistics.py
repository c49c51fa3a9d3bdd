# SPDX-License-Identifier: Apache-2.0
"""What a data set holds, counted as the paper counts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medreasoner_infer.language.spoken import is_unspaced, tokens_of
from medreasoner_training.evaluation import EvaluationRow
from medreasoner_training.evaluation.pictures import Case

UNTOLD = "not told"
GROUPINGS = (
    "split", "super_category", "category", "modality", "kind", "language", "licence", "may_train",
    "target",
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """Of some numbers; all 0 where there is none."""

    count: int
    mean: float
    least: float
    quarter: float
    median: float
    three_quarters: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of values."""
        if not values:
            return cls(0, 0, 0, 0, 0, 0, 0)
        least, quarter, median, upper, most = np.percentile(values, (0, 25, 50, 75, 100)).tolist()
        return cls(len(values), float(np.mean(values)), least, quarter, median, upper, most)


@dataclass(frozen=True)
class Statistics:
    """Counts and spreads.

    Attributes:
        rows: questions.
        patients: told ones.
        counts: rows by grouping (see ``GROUPINGS``) and value, most frequent first.
        question_words: words of a question, or characters where there are no spaces.
        box_area_share: of the image, of present targets.
        mask_area_share: likewise.
    """

    rows: int
    patients: int
    counts: Mapping[str, Mapping[str, int]]
    question_words: Spread
    box_area_share: Spread
    mask_area_share: Spread


@dataclass
class Counting:
    """Counts rows as they come."""

    _counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in GROUPINGS}
    )
    _patients: set[str] = field(default_factory=set)
    _words: list[float] = field(default_factory=list)
    _boxes: list[float] = field(default_factory=list)
    _masks: list[float] = field(default_factory=list)
    _rows: int = 0

    def add(self, row: EvaluationRow, case: Case, may_train: bool | None) -> None:
        """Count a row with its pixels; ``may_train`` is what its licence says."""
        values = {
            "split": row.split, "super_category": row.super_category, "category": row.category,
            "modality": row.modality, "kind": row.kind, "language": row.language,
            "licence": row.licence,
            "may_train": "" if may_train is None else "yes" if may_train else "no",
            "target": "absent" if case.truth is None else "present",
        }  # fmt: skip
        for name, value in values.items():
            self._counts[name][value or UNTOLD] += 1
        self._rows += 1
        if row.patient:
            self._patients.add(row.patient)
        self._words.append(float(question_length(row.question)))
        height, width = case.shown.mapping.shape_hw
        if case.truth is not None:
            x1, y1, x2, y2 = case.truth.bbox_xyxy_px
            self._boxes.append((x2 - x1) * (y2 - y1) / (width * height))
        if case.mask is not None:
            self._masks.append(float(case.mask.mean()))

    def statistics(self) -> Statistics:
        """What was counted so far."""
        counts = {
            name: dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
            for name, found in self._counts.items()
        }
        spreads = (Spread.of(values) for values in (self._words, self._boxes, self._masks))
        return Statistics(self._rows, len(self._patients), counts, *spreads)


def question_length(text: str) -> int:
    """Words of a question; in languages without spaces each character counts."""
    tokens = (token.plain for token in tokens_of(text))
    return sum(word.isalnum() or is_unspaced(word) for word in tokens)
