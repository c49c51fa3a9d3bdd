# SPDX-License-Identifier: Apache-2.0
"""The table of a review: a row for each question, with a column for the decision.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula and runs it.
Such a cell gets an apostrophe before it, and so does one that begins with an apostrophe, so that
what is read is what was written.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from medreasoner_infer.atomic import replacing
from medreasoner_training.dataset.errors import ReviewError
from medreasoner_training.evaluation import EvaluationRow

Choice = Literal["accept", "reject", ""]
CHOICES: tuple[Choice, ...] = get_args(Choice)
COLUMNS = (
    "id", "decision", "question", "note", "category", "modality", "kind", "language", "split",
    "target", "reasoning",
)  # fmt: skip
NEEDED = ("id", "decision", "question")
GUARD = "'"
#: Also the full-width forms, which some programs read alike, and blanks that some of them drop.
DANGEROUS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")


@dataclass(frozen=True)
class Decision:
    """What a reviewer decided on a row; ``question`` is as it is to be asked."""

    id: str
    choice: Choice
    question: str
    note: str = ""


def as_cell(text: str) -> str:
    """A text as a spreadsheet may read it."""
    return f"{GUARD}{text}" if text.startswith((*DANGEROUS, GUARD)) else text


def from_cell(cell: str) -> str:
    """The text of a cell that :func:`as_cell` wrote, or that a spreadsheet has unguarded."""
    return cell.removeprefix(GUARD)


def write_review_table(rows: Iterable[EvaluationRow], path: Path) -> int:
    """Write a CSV table in UTF-8 with an empty decision for each row, whole or not at all.

    Returns:
        How many rows it has.
    """
    written = 0
    with (
        replacing(path) as unfinished,
        unfinished.open("w", encoding="utf-8-sig", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for row in rows:
            target = "absent" if (row.ground_truth or "").strip() == "null" else "present"
            cells = (
                row.id, "", row.question, "", row.category, row.modality, row.kind, row.language,
                row.split, target, row.reasoning,
            )  # fmt: skip
            table.writerow(map(as_cell, cells))
            written += 1
    return written


def read_decisions(path: Path) -> tuple[Decision, ...]:
    """Read such a table, as a spreadsheet or the page of a review has saved it.

    Raises:
        ReviewError: it is missing, no CSV in UTF-8, lacks a column, tells another decision, or
            decides twice on one row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            missing = [name for name in NEEDED if name not in (table.fieldnames or ())]
            if missing:
                raise ReviewError(
                    f"{path.name} has no column {' and no '.join(missing)}; expected those that "
                    "'medreasoner dataset review --export' writes, separated by commas."
                )
            found = tuple(
                _decision(
                    {k: from_cell(v) for k, v in row.items() if isinstance(v, str) and k}, number
                )
                for number, row in enumerate(table, start=1)
            )
    except (FileNotFoundError, UnicodeDecodeError, csv.Error) as error:
        raise ReviewError(
            f"{path.name} cannot be read as a table ({type(error).__name__}); expected CSV in "
            "UTF-8."
        ) from error
    seen: set[str] = set()
    for number, decision in enumerate(found, start=1):
        if decision.id in seen:
            raise ReviewError(
                f"Row {number} of {path.name} decides on a row of the data set again."
            )
        seen.add(decision.id)
    return found


def _decision(row: dict[str, str], number: int) -> Decision:
    choice = row.get("decision", "").strip().lower()
    if choice not in CHOICES:
        raise ReviewError(
            f"Row {number} of the review decides {choice[:20]!r}; expected accept, reject or "
            "nothing."
        )
    missing = [name for name in ("id", "question") if name not in row]
    if missing:
        raise ReviewError(f"Row {number} of the review has no {missing[0]}.")
    return Decision(row["id"], choice, row["question"], row.get("note", ""))
