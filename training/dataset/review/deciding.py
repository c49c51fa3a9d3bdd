# SPDX-License-Identifier: Apache-2.0
"""A data set after its review: without what was rejected, with what was edited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from medreasoner_training.dataset.checking import checkable
from medreasoner_training.dataset.checks import Carried, faults_of
from medreasoner_training.dataset.converting import convert_dataset
from medreasoner_training.dataset.errors import ReviewError
from medreasoner_training.dataset.opening import open_case
from medreasoner_training.dataset.review.table import Decision
from medreasoner_training.evaluation import EvaluationRow, RowSource

Undecided = Literal["keep", "drop"]


@dataclass(frozen=True)
class Reviewed:
    """What came of a review.

    Attributes:
        kept: rows that were written.
        edited: of them, those whose question was changed.
        rejected: by the reviewers.
        undecided: rows without a decision.
        refused: edited questions that a check refused, by its reason; their rows are left out.
    """

    kept: int
    edited: int
    rejected: int
    undecided: int
    refused: Mapping[str, int]


def apply_review(
    source: RowSource,
    decisions: Sequence[Decision],
    out: Path,
    *,
    undecided: Undecided = "keep",
    on_row: Callable[[int, int], None] | None = None,
) -> Reviewed:
    """Write the data set in the schema of U-MRG-14K as the review left it; never in its place.

    Args:
        source: the data set that was reviewed, all splits.
        decisions: of :func:`~.table.read_decisions`.
        out: new folder.
        undecided: what becomes of rows without a decision.
        on_row: called with (rows done, all rows).

    Raises:
        ReviewError: a decision is about a row that the data set does not have, or nothing is left.
        EvaluationDataError: a row cannot be read.
        DatasetFolderError: the output folder holds something.
    """
    by_id = {decision.id: decision for decision in decisions}
    ids = [row.id for row in source.read(range(source.count))]
    strange = by_id.keys() - set(ids)
    if strange:
        raise ReviewError(
            f"{len(strange)} rows of the review are not in this data set; expected the table that "
            "was exported from it."
        )
    if len(set(ids)) < len(ids):
        raise ReviewError(
            "Several rows of the data set have the same id, so none can be decided on."
        )
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    kept: dict[int, str] = {}
    for place, row in enumerate(source.read(range(source.count))):
        question = _decided(row, by_id.get(row.id), undecided, counts, refused)
        if question is not None:
            kept[place] = question
    if not kept:
        raise ReviewError("The review leaves no row of the data set.")
    places = list(kept)

    def read(wanted: Sequence[int]) -> Iterator[EvaluationRow]:
        at = [places[number] for number in wanted]
        for place, row in zip(at, source.read(at), strict=True):
            yield replace(row, question=kept[place])

    left = RowSource(source.name, source.split, source.fingerprint, len(places), read)
    convert_dataset(left, "umrg", out, on_row=on_row)
    return Reviewed(
        len(places), counts["edited"], counts["rejected"], counts["undecided"], dict(refused)
    )


def _decided(
    row: EvaluationRow,
    decision: Decision | None,
    undecided: Undecided,
    counts: Counter[str],
    refused: Counter[str],
) -> str | None:
    """The question as it is to be asked; ``None`` where the row is left out."""
    if decision is None or not decision.choice:
        counts["undecided"] += 1
        if undecided == "drop":
            return None
    elif decision.choice == "reject":
        counts["rejected"] += 1
        return None
    if decision is None or decision.question.strip() == row.question:
        return row.question
    faults = _new_faults(row, decision.question.strip())
    if faults:
        refused.update(faults)
        return None
    counts["edited"] += 1
    return decision.question.strip()


def _new_faults(row: EvaluationRow, question: str) -> list[str]:
    """Those that the row has with this question and had not before."""
    before = checkable(row, open_case(row))
    had = faults_of(before, Carried())
    return [f for f in faults_of(replace(before, question=question), Carried()) if f not in had]
