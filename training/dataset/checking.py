# SPDX-License-Identifier: Apache-2.0
"""A finished data set of any format, checked row by row and counted."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.earlier_files import is_json_with
from medreasoner_training.dataset.checks import (
    NO_LICENCE,
    NO_SPLIT,
    UNREADABLE,
    Carried,
    Checkable,
    TogetherChecks,
    faults_of,
)
from medreasoner_training.dataset.opening import open_case
from medreasoner_training.dataset.sides import is_mirrored
from medreasoner_training.dataset.statistics import Counting, Statistics
from medreasoner_training.dataset.targets import named_target
from medreasoner_training.evaluation import EvaluationDataError, EvaluationRow, RowSource
from medreasoner_training.evaluation.pictures import Case
from medreasoner_training.licences import may_train

MOST_EXAMPLES = 5
OnRow = Callable[[int, int], None]


@dataclass(frozen=True)
class FaultCount:
    """How many rows have a fault, and the ids of the first of them."""

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        name: of the data set.
        rows: that were checked.
        faulty_rows: of them, those with a fault at least.
        faults: most frequent first.
        notes: what no row of the data set tells, which is no fault of a row.
        statistics: counts of what is in it.
    """

    name: str
    rows: int
    faulty_rows: int
    faults: tuple[FaultCount, ...]
    notes: tuple[str, ...]
    statistics: Statistics

    def to_json(self) -> str:
        """The report for programs."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def check_dataset(
    source: RowSource, *, all_implicit: bool = False, on_row: OnRow | None = None
) -> CheckReport:
    """Check every row, and the rows together.

    Args:
        source: of :func:`medreasoner_training.evaluation.open_rows`, of all splits.
        all_implicit: hold questions whose kind the data set does not tell to be implicit.
        on_row: called with (rows done, all rows).

    Raises:
        EvaluationDataError: the data set holds no row.
    """
    if not source.count:
        raise EvaluationDataError("The data set holds no question.")
    found: dict[str, list[tuple[int, str]]] = {}
    counting, together, told = Counting(), TogetherChecks(), Counter[str]()
    for number, row in enumerate(source.read(range(source.count)), start=1):
        told.update({"licence": bool(row.licence), "split": bool(row.split)})
        for fault in _faults(row, counting, together, all_implicit):
            found.setdefault(fault, []).append((number, row.id))
        if on_row is not None:
            on_row(number, source.count)
    notes = []
    for what, fault in (("licence", NO_LICENCE), ("split", NO_SPLIT)):
        if not told[what]:
            notes.append(f"No row tells its {what}.")
            found.pop(fault, None)
    ranked = sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return CheckReport(
        source.name,
        source.count,
        len({number for rows in found.values() for number, _ in rows}),
        tuple(
            FaultCount(why, len(rows), tuple(id_ for _, id_ in rows[:MOST_EXAMPLES]))
            for why, rows in ranked
        ),
        tuple(notes),
        counting.statistics(),
    )


def write_check(report: CheckReport, path: Path) -> None:
    """Write the report as JSON, whole or not at all."""
    write_durably(path, report.to_json())


def is_check(path: Path) -> bool:
    """Whether a file is what :func:`write_check` wrote.

    Raises:
        OSError: it cannot be read.
    """
    return is_json_with(path, {each.name for each in fields(CheckReport)})


def checkable(row: EvaluationRow, case: Case, *, all_implicit: bool = False) -> Checkable:
    """A row with its pixels as it is checked; key points and box are those that it stores."""
    truth = case.truth
    return Checkable(
        question=row.question,
        kind=row.kind or ("implicit" if all_implicit else ""),
        language=row.language,
        named=named_target(row.category),
        bbox_xyxy_px=None if truth is None else truth.bbox_xyxy_px,
        points_xy_px=() if truth is None else truth.points_xy_px,
        mask=case.mask,
        mirrored=is_mirrored("", row.modality),
        licence=row.licence,
        split=row.split,
        may_train=row.may_train,
    )


def _faults(
    row: EvaluationRow, counting: Counting, together: TogetherChecks, all_implicit: bool
) -> Iterator[str]:
    try:
        case = open_case(row)
    except EvaluationDataError:
        yield UNREADABLE
        return
    counting.add(row, case, may_train(row.licence, row.may_train))
    yield from faults_of(checkable(row, case, all_implicit=all_implicit), Carried())
    pixels = np.ascontiguousarray(case.shown.image.pixels)
    picture = repr(pixels.shape).encode() + pixels.tobytes()
    target = b"" if case.truth is None else repr(_whole(case)).encode()
    beside = together.add(picture, row.question, target, row.patient, row.split)
    if beside is not None:
        yield beside


def _whole(case: Case) -> tuple[int, ...]:
    assert case.truth is not None  # nosec B101 # for the type checker
    return tuple(math.floor(edge) for edge in case.truth.bbox_xyxy_px)
