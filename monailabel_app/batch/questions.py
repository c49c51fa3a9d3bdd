# SPDX-License-Identifier: Apache-2.0
"""The list of questions: CSV as spreadsheets write it, or YAML."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging.places import is_ordinary_file
from medreasoner_infer.language import questions_of
from medreasoner_infer.modalities import known_modality
from monailabel_app.batch.errors import QuestionListError
from monailabel_app.inference.params import InferParams

QUESTION = "question"
# Which images a row is about; without one of them, all.
PLACES = ("image", "series", "study")
FILTERS = ("modality", "body_part")
_ASKED = ("plane", "slice", "window", "propagate")
COLUMNS = (QUESTION, *PLACES, *_ASKED, *FILTERS)
_OTHER_NAMES = {"query": QUESTION}
_CSV, _YAML = (".csv", ".tsv", ".txt"), (".yaml", ".yml")
_DELIMITERS = ",;\t"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Question:
    """One question of the list, and the images that it is for.

    Attributes:
        row: of the list, from 1, without the head.
        params: the question, its slice and window, and whether the mask goes through the volume.
        image: id or file name of an image; ``None`` for all.
        series: Series Instance UID; ``None`` for all.
        study: Study Instance UID; ``None`` for all.
        modality: DICOM code that an image must have.
        body_part: Body Part Examined (0018,0015) that a series must have, in capitals.
    """

    row: int
    params: InferParams
    image: str | None = None
    series: str | None = None
    study: str | None = None
    modality: str | None = None
    body_part: str | None = None

    @property
    def text(self) -> str:
        """As it is asked."""
        return self.params.query or ""

    @property
    def asked_key(self) -> str:
        """The same for rows that ask the same; hexadecimal."""
        asked, place = self.params, self.params.selection
        return _hash(asked.query, place.plane, place.index, place.window, asked.propagate)

    @property
    def key(self) -> str:
        """The same for rows that ask the same of images that pass the same filters; hexadecimal."""
        return _hash(self.asked_key, self.modality, self.body_part)


def read_questions(path: Path) -> tuple[Question, ...]:
    """The questions of a list; a row that names several targets makes a question for each.

    Raises:
        QuestionListError: the list is missing, damaged or empty, or a row cannot be asked.
    """
    if not is_ordinary_file(path):
        raise QuestionListError(f"There is no list of questions {path}.")
    suffix = path.suffix.lower()
    if suffix not in (*_CSV, *_YAML):
        raise QuestionListError(
            f"{path.name} is no list of questions; expected a name that ends with "
            f"{', '.join((*_CSV, *_YAML))}."
        )
    rows = _csv_rows(path) if suffix in _CSV else _yaml_rows(path)
    found = [each for number, row in rows for each in _questions(path.name, number, row)]
    if not found:
        raise QuestionListError(
            f"{path.name} holds no question; expected a row for each, in the column {QUESTION!r}."
        )
    return tuple(found)


def _questions(name: str, number: int, row: Mapping[str, str]) -> Iterator[Question]:
    try:
        one = _question(number, row)
    except InputError as error:
        raise QuestionListError(f"Row {number} of {name}: {error}") from error
    for text in questions_of(one.text):
        yield replace(one, params=replace(one.params, query=text))


def _question(number: int, row: Mapping[str, str]) -> Question:
    if not row.get(QUESTION):
        raise InputError(f"the column {QUESTION!r} is empty; write what is asked.")
    asked = {name: row[name] for name in _ASKED if name in row}
    modality, body_part = row.get("modality"), row.get("body_part")
    return Question(
        row=number,
        params=InferParams.parse({"query": row[QUESTION], **asked}),
        modality=None if modality is None else known_modality(modality),
        body_part=None if body_part is None else body_part.upper(),
        **{name: row.get(name) for name in PLACES},
    )


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows that hold something by the names of their columns; cells that are empty are left out."""
    lines = list(io.StringIO(_text_of(path), newline=""))
    delimiter = None
    if lines and lines[0].lower().startswith("sep="):  # Excel's own word on it
        delimiter = lines.pop(0)[4:5]
    head = lines[0] if lines else ""
    reader = csv.reader(lines, delimiter=delimiter or max(_DELIMITERS, key=head.count), strict=True)
    try:
        names = _columns(path.name, next(reader, []))
        for number, cells in enumerate(reader, start=1):
            if any(cell.strip() for cell in cells[len(names) :]):
                raise QuestionListError(
                    f"Row {number} of {path.name} has more cells than the head has columns; put "
                    "a text that holds the delimiter into quotation marks."
                )
            row = dict(zip(names, map(str.strip, cells), strict=False))
            if any(row.values()):
                yield number, {key: cell for key, cell in row.items() if key and cell}
    except csv.Error as error:
        raise QuestionListError(f"{path.name} cannot be read as CSV ({error}).") from error


def _text_of(path: Path) -> str:
    content = path.read_bytes()
    try:
        if content.startswith(_UTF_16):
            return content.decode("utf-16")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise QuestionListError(
            f"{path.name} is not written in UTF-8; save it as 'CSV UTF-8'."
        ) from error


def _columns(file: str, head: list[str]) -> list[str]:
    """Names of the columns; those at the end that have none are a spreadsheet's empty ones."""
    names = ["_".join(name.split()).lower() for name in head]
    while names and not names[-1]:
        names.pop()
    names = [_OTHER_NAMES.get(name, name) for name in names]
    _require_known(file, names)
    if QUESTION not in names:
        raise QuestionListError(
            f"{file} has no column {QUESTION!r}; its first row names the columns, of which these "
            f"are known: {', '.join(COLUMNS)}."
        )
    return names


def _require_known(file: str, names: list[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise QuestionListError(
            f"{file} has the column {unknown[0]!r}, which is not known; expected {QUESTION} and "
            f"maybe {', '.join(COLUMNS[1:])}."
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise QuestionListError(f"{file} has the column {twice[0]!r} twice; keep one of them.")


def _yaml_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Entries of a list: a question, or a mapping with the names of the columns."""
    try:
        entries: Any = yaml.safe_load(_text_of(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f" at line {mark.line + 1}"
        raise QuestionListError(
            f"{path.name} cannot be read as YAML{place}; put a text with '?' or ':' into quotation "
            "marks."
        ) from error
    if not isinstance(entries, list):
        raise QuestionListError(f"{path.name} holds no list of questions; begin each with '- '.")
    for number, entry in enumerate(entries, start=1):
        row = {QUESTION: entry} if isinstance(entry, str) else entry
        if not isinstance(row, Mapping) or not all(isinstance(key, str) for key in row):
            raise QuestionListError(
                f"Row {number} of {path.name} is neither a question nor a mapping of columns."
            )
        named = {_OTHER_NAMES.get(key, key): value for key, value in row.items()}
        _require_known(path.name, list(named))
        cells = {key: _cell(value) for key, value in named.items() if value is not None}
        yield number, {key: cell for key, cell in cells.items() if cell}


def _hash(*values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _cell(value: object) -> str:
    return str(value).strip()
