# SPDX-License-Identifier: Apache-2.0
"""``answers.csv`` and ``weeks.csv``, in a form that spreadsheets run nothing of."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medreasoner_infer.atomic import replacing
from medreasoner_training.dataset.review.table import as_cell
from monailabel_app.audit.answers import AuditedAnswer
from monailabel_app.audit.control import ControlChart
from monailabel_app.common.private_files import PRIVATE_FILE

ANSWERS_NAME, WEEKS_NAME = "answers.csv", "weeks.csv"
_COLUMNS = (
    "week", "target", "modality", "outcome", "reasoner", "segmenter", "confidence", "agreement",
    "support", "answer_s", "decision", "decision_s", "dice",
)  # fmt: skip
_IDENTIFIERS = ("asked_at", "inference_id", "image_id", "study_uid", "asked_by", "decided_by")
_WEEKS = ("figure", "week", "n", "value", "low", "high", "centre", "baseline", "alarms")


@dataclass(frozen=True)
class Told:
    """What of persons a table may tell: identifiers and the moment, and the questions' text."""

    identifiers: bool = False
    questions: bool = False


def write_answers(answers: Iterable[AuditedAnswer], folder: Path, told: Told) -> Path:
    """Write a row for each answer, whole or not at all; the owner alone may read it."""
    header = list(_COLUMNS)
    header += _IDENTIFIERS if told.identifiers else ()
    header += ["question"] if told.questions else []
    path = folder / ANSWERS_NAME
    _write(path, header, (_row(answer, told) for answer in answers))
    return path


def write_weeks(charts: Mapping[str, ControlChart], folder: Path) -> Path:
    """Write a row for each week of each figure, whole or not at all."""
    path = folder / WEEKS_NAME
    rows = (
        [
            name, point.week, point.n, _number(point.value), _number(point.low),
            _number(point.high), _number(chart.centre), int(point.is_baseline),
            "; ".join(point.rules),
        ]
        for name, chart in charts.items()
        for point in chart.points
    )  # fmt: skip
    _write(path, _WEEKS, rows)
    return path


def _row(answer: AuditedAnswer, told: Told) -> list[object]:
    row: list[object] = [
        answer.week, answer.target, answer.modality, answer.outcome, answer.reasoner,
        answer.segmenter, _number(answer.confidence), _number(answer.agreement),
        _number(answer.support), _number(answer.answer_s), answer.decision,
        _number(answer.decision_s), _number(answer.dice),
    ]  # fmt: skip
    if told.identifiers:
        who = answer.identifiers
        row += [answer.asked_at.isoformat(), *(getattr(who, name) for name in _IDENTIFIERS[1:])]
    if told.questions:
        row.append(answer.question)
    return row


def _number(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with (
        replacing(path, durable=True) as unfinished,
        unfinished.open("w", encoding="utf-8-sig", newline="") as file,
    ):
        unfinished.chmod(PRIVATE_FILE)
        table = csv.writer(file)
        table.writerow(header)
        for row in rows:
            table.writerow("" if cell is None else as_cell(str(cell)) for cell in row)
