# SPDX-License-Identifier: Apache-2.0
"""What came of a run: counts for people, a table of all answers for their programs."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medreasoner_infer.atomic import replacing
from monailabel_app.batch.work import Models, Pair
from monailabel_app.studies.set_aside import SetAside

REPORT_NAME = "report.json"
TABLE_NAME = "answers.csv"
_COLUMNS = (
    "row", "question", "image", "outcome", "seconds", "inference_id", "place", "left_out",
    "failed", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What came of the pairs of a list.

    Attributes:
        models: that answered.
        pairs: those that were to be asked, in their order, also those that are not answered yet.
        duplicates: how often a row asks what another one asks already.
        set_aside: studies that could not be listed, where a row asks about all.
        archived: how many answers are how far on their way to the archive.
        not_archived: sentences about those that it will never have.
    """

    models: Models
    pairs: tuple[Pair, ...]
    duplicates: int = 0
    set_aside: tuple[SetAside, ...] = ()
    archived: Mapping[str, int] = field(default_factory=dict)
    not_archived: tuple[str, ...] = ()

    @property
    def outcomes(self) -> Counter[str]:
        """Answers by what they say of the target."""
        return Counter(pair.outcome for pair in self.pairs if pair.outcome is not None)

    @property
    def failed(self) -> Counter[str]:
        """Pairs without an answer by the kind of the fault."""
        return Counter(pair.failed for pair in self.pairs if pair.failed is not None)

    @property
    def left_out(self) -> Counter[str]:
        """Pairs that were not to be asked by the filter that the image does not pass."""
        return Counter(pair.left_out for pair in self.pairs if pair.left_out is not None)

    @property
    def has_failed(self) -> bool:
        """Whether anything is to be looked after."""
        return bool(self.failed or self.set_aside or self.not_archived)

    def seconds(self, share: float) -> float | None:
        """So many of the answers (0 to 1) took no longer; ``None`` without answers."""
        taken = [pair.seconds for pair in self.pairs if pair.seconds is not None]
        return round(float(np.quantile(taken, share)), 3) if taken else None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        faults = [pair for pair in self.pairs if pair.failed is not None]
        return {
            "models": [None if model is None else asdict(model) for model in self.models],
            "pairs": len(self.pairs),
            "answered": self.outcomes.total(),
            "outcomes": dict(self.outcomes),
            "left_out": dict(self.left_out),
            "failed": dict(self.failed),
            "faults": [
                {"row": p.question.row, "image": p.image_id, "kind": p.failed, "reason": p.reason}
                for p in faults
            ],
            "set_aside": [asdict(one) for one in self.set_aside],
            "duplicates": self.duplicates,
            "seconds": {"median": self.seconds(0.5), "p95": self.seconds(0.95)},
            "archived": dict(self.archived),
            "not_archived": list(self.not_archived),
        }


def write_report(report: Report, out: Path) -> tuple[Path, Path]:
    """Write the report, and the table of all pairs, each whole or not at all."""
    summary, table = out / REPORT_NAME, out / TABLE_NAME
    with replacing(summary, durable=True) as unfinished:
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
        unfinished.write_text(text + "\n", encoding="utf-8")
    # With a byte order mark, as spreadsheets take a file without one for another encoding.
    with (
        replacing(table, durable=True) as unfinished,
        unfinished.open("w", encoding="utf-8-sig", newline="") as file,
    ):
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(_rows(report.pairs))
    return summary, table


def _rows(pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    own = ("outcome", "seconds", "inference_id", "place", "left_out", "failed", "reason")
    for pair in pairs:
        told = {"row": pair.question.row, "question": pair.question.text, "image": pair.image_id}
        yield told | {name: getattr(pair, name) for name in own}
