# SPDX-License-Identifier: Apache-2.0
"""A table of questions about pictures in a folder."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.hashing import files_sha256
from medreasoner_infer.imaging.places import inside, is_ordinary_file
from medreasoner_training.evaluation.errors import EvaluationDataError
from medreasoner_training.evaluation.readers.splits import ALL, chosen_split
from medreasoner_training.evaluation.rows import EvaluationRow, RowSource

QUESTION_FILES = ("questions.csv", "questions.parquet")
NEEDED = ("image", "question")
# Names of columns that say the same.
_OTHER_NAMES = {
    "label": "category",
    "supercategory": "super_category",
    "patient_key": "patient",
    "license": "licence",
    "query": "question",
}
_TRUTHS = {
    "": None,
    "true": True,
    "1": True,
    "yes": True,
    "false": False,
    "0": False,
    "no": False,
}


def read_questions(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV or parquet table of questions, by the names of their columns.

    Columns are ``image`` and ``question``, and where they are told ``mask`` (empty where the target
    is absent), ``id``, ``category``, ``super_category``, ``modality``, ``patient``, ``split``,
    ``licence``, ``may_train`` (true or false), ``kind``, ``language`` and ``reasoning``; others are
    passed over.

    Raises:
        EvaluationDataError: the table is missing, damaged, empty, or lacks a column.
        MissingExtraError: pyarrow, which reads parquet, is not installed.
    """
    return read_table(table, NEEDED)


def read_table(table: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV or parquet table, by the names of their columns in lower case.

    Raises:
        EvaluationDataError: the table is missing, damaged, empty, or lacks a needed column.
        MissingExtraError: pyarrow, which reads parquet, is not installed.
    """
    if not is_ordinary_file(table):
        raise EvaluationDataError(f"There is no table {table.name!r}.")
    try:
        rows = _parquet(table) if table.suffix == ".parquet" else _csv(table)
    except (ValueError, csv.Error) as error:  # of text that is none, and of Arrow
        raise EvaluationDataError(
            f"{table.name} cannot be read as a table ({type(error).__name__}); expected CSV in "
            "UTF-8, or parquet."
        ) from error
    missing = [name for name in needed if not rows or name not in rows[0]]
    if missing:
        raise EvaluationDataError(
            f"{table.name} has no {' and no '.join(missing)}; expected a row for each question "
            f"with the columns {', '.join(dict.fromkeys((*needed, 'mask')))}."
        )
    return rows


def question_rows(name: str, folder: Path, table: Path, split: str | None) -> RowSource:
    """The questions of a table about pictures below ``folder``.

    Raises:
        EvaluationDataError: as :func:`read_questions`, or a picture is not in the folder.
        MissingExtraError: likewise.
    """
    asked = read_questions(table)
    splits = frozenset(row.get("split", "") for row in asked)
    chosen = chosen_split(splits, split)
    rows = [
        question_row(folder, row, number)
        for number, row in enumerate(asked, start=1)
        if chosen in (ALL, row.get("split"))
    ]
    return RowSource.of_list(name, chosen, files_sha256(table), rows, splits)


def question_row(folder: Path, row: Mapping[str, str], number: int) -> EvaluationRow:
    """One question; ``number`` names it where it has no id.

    Raises:
        EvaluationDataError: it is empty, a picture is not in the folder, or ``may_train`` is
            neither true nor false.
    """
    if not row["question"].strip():
        raise EvaluationDataError(f"Row {number} of the table holds no question.")
    mask = row.get("mask", "")
    return EvaluationRow(
        id=row.get("id") or f"{number:05d}",
        question=row["question"].strip(),
        image=picture_at(folder, row["image"], number),
        mask=picture_at(folder, mask, number) if mask else None,
        ground_truth=None if mask else "null",
        category=row.get("category", ""),
        super_category=row.get("super_category", ""),
        modality=row.get("modality", ""),
        patient=row.get("patient", ""),
        licence=row.get("licence", ""),
        split=row.get("split", ""),
        may_train=told_truth(row.get("may_train", ""), number),
        kind=row.get("kind", ""),
        language=row.get("language", ""),
        reasoning=row.get("reasoning", ""),
    )


def told_truth(text: str, number: int) -> bool | None:
    """What a cell says, ``true`` or ``false``; ``None`` where it is empty.

    Raises:
        EvaluationDataError: it says something else; ``number`` names the row.
    """
    said = text.strip().lower()
    if said not in _TRUTHS:
        raise EvaluationDataError(
            f"Row {number} says {text[:20]!r} of may_train; expected true, false or nothing."
        )
    return _TRUTHS[said]


def picture_at(folder: Path, name: str, number: int) -> Path:
    """The picture that a row names, which must lie in the data set's folder.

    Raises:
        EvaluationDataError: it does not, or is missing.
    """
    path = folder / name
    if not name or not inside(folder, path) or not is_ordinary_file(path):
        raise EvaluationDataError(
            f"Row {number} names a picture that is not in the data set's folder. Give the names of "
            "files below it, with folders separated by /."
        )
    return path


def _csv(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        return [_named(row) for row in csv.DictReader(file, strict=True)]


def _parquet(table: Path) -> list[dict[str, str]]:
    try:
        from pyarrow.parquet import read_table
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyarrow", "train") from error
    rows: Sequence[Mapping[str, Any]] = read_table(table).to_pylist()
    return [_named(row) for row in rows]


def _named(row: Mapping[Any, Any]) -> dict[str, str]:
    """Names of columns in lower case, and values as texts; ``None`` is empty."""
    plain = {
        str(name).strip().lower(): "" if value is None else str(value)
        for name, value in row.items()
        if name is not None
    }
    return {_OTHER_NAMES.get(name, name): value for name, value in plain.items()}
