# SPDX-License-Identifier: Apache-2.0
"""From the rows of a data set to the folder that trainings read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medreasoner_infer.hashing import files_sha256
from medreasoner_infer.imaging import letterbox
from medreasoner_training.evaluation import EvaluationDataError, EvaluationRow, RowSource, open_rows
from medreasoner_training.evaluation.pictures import load_case
from medreasoner_training.evaluation.readers.splits import ALL
from medreasoner_training.learning.permission import why_not_to_train_on
from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    DatasetFolderError,
    LeftOut,
    NoSamplesError,
    QuerySource,
    Question,
    Sample,
    SampleDataset,
    TooFewPatientsError,
    assign_splits,
    open_dataset,
    pseudonym,
    require_free,
    writing_dataset,
)
from medreasoner_training.samples.geometry import mask_on_square, truth_in_reasoner_px
from medreasoner_training.samples.umrg import TEST

NO_MASK = "it has no mask, from which images that are varied take their truth"
VALIDATES = "its patient validates"
TESTED = "its patient is in the split test"
HELD_OUT = "its super-category is held out"
_LEAST_VALIDATING = 2
OnRow = Callable[[int, int], None]


@dataclass(frozen=True)
class LearningSettings:
    """How a data set is made ready to be learnt from.

    Attributes:
        model_size: side of the square that the reasoner reads, in reasoner px.
        val_share: share of the patients that validate, where the data set has no split for that.
        split: to learn from; by default ``train``, or everything where there are no splits.
        held_out_super_categories: of which no row is learnt from or validated on.
    """

    model_size: int
    val_share: float = 0.2
    split: str | None = None
    held_out_super_categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part:
    """Rows of a source by their places: the split that each goes into, and its patient's key."""

    source: RowSource
    split_of: dict[int, str]
    patients: dict[int, str]


def learning_set(
    data: str,
    out: Path,
    settings: LearningSettings,
    *,
    questions: Path | None = None,
    on_row: OnRow | None = None,
) -> SampleDataset:
    """Write the folder that a training reads; it appears whole or not at all.

    The split ``test`` is never learnt from unless it is asked for, nor are its patients. Where the
    data set has a split ``validation``, that one validates, and its patients are not learnt from.

    Args:
        data: file, folder or Hugging Face id, as :func:`open_rows` takes it.
        out: new or empty folder.
        settings: how.
        questions: table of questions, as :func:`open_rows` takes it.
        on_row: called with (rows written, all rows to be written).

    Raises:
        EvaluationDataError: of no known format, not readable, or without a split to learn from.
        DataUnavailableError: the Hugging Face hub cannot be reached.
        DatasetFolderError: ``out`` holds something already.
        NoSamplesError: nothing may be trained on.
        TooFewPatientsError: too few patients for two splits.
        MissingExtraError: a package that reads or writes is not installed.
    """
    require_free(out)
    left_out = LeftOut()
    parts = _parts(data, questions, settings, left_out)
    total = sum(len(part.split_of) for part in parts)
    used = {split for part in parts for split in part.split_of.values()}
    names = tuple(name for name in (TRAIN, VALIDATION) if name in used)
    told, done = _told(open_rows(data, questions=questions, split=ALL), settings), 0
    with writing_dataset(out, names, told, left_out) as writer:
        for part in parts:
            for place, row in _rows(part.source, sorted(part.split_of)):
                sample = sample_of(row, settings.model_size, part.patients[place])
                if sample is None:
                    left_out.add(row.category, NO_MASK)
                else:
                    writer.add(sample, part.split_of[place])
                done += 1
                if on_row is not None:
                    on_row(done, total)
    return open_dataset(out)


@dataclass(frozen=True)
class LearningPlan:
    """What :func:`learning_set` would write.

    Attributes:
        rows: of each split.
        questions: the different ones.
        left_out: rows that are not, by their reason; a missing mask shows only when one is written.
    """

    rows: Mapping[str, int]
    questions: tuple[str, ...]
    left_out: LeftOut


def planned_learning_set(
    data: str, settings: LearningSettings, *, questions: Path | None = None
) -> LearningPlan:
    """Look at a data set as :func:`learning_set` does, and write nothing.

    Raises:
        EvaluationDataError, DataUnavailableError, NoSamplesError, TooFewPatientsError: as there.
    """
    left_out = LeftOut()
    parts = _parts(data, questions, settings, left_out)
    rows = Counter(split for part in parts for split in part.split_of.values())
    asked = {row.question for part in parts for _, row in _rows(part.source, sorted(part.split_of))}
    return LearningPlan(rows, tuple(sorted(asked)), left_out)


def sample_of(row: EvaluationRow, model_size: int, patient_key: str) -> Sample | None:
    """A row on the square that the reasoner reads; ``None`` for a target that has no mask.

    Args:
        row: of any reader.
        model_size: side of the square, in reasoner px.
        patient_key: pseudonym.

    Raises:
        EvaluationDataError: as :func:`load_case`.
    """
    case = load_case(row, model_size)
    if case.truth is not None and case.mask is None:
        return None
    shown, truth = case.shown, case.truth
    section = np.zeros(shown.mapping.shape_hw, bool) if case.mask is None else case.mask
    found = (
        None
        if truth is None
        else truth_in_reasoner_px(truth.bbox_xyxy_px, truth.points_xy_px, shown.mapping)
    )
    return Sample(
        image=letterbox(shown.image, shown.mapping),
        mask=mask_on_square(section, shown.mapping),
        question=Question(row.question, QuerySource.DATA_SET, row.reasoning or None),
        label_name=row.category,
        bbox_xyxy_px=None if found is None else found.bbox_xyxy_px,
        points_xy_px=None if found is None else found.points_xy_px,
        plane=shown.mapping.plane,
        slice_index=shown.mapping.index,
        modality=row.modality,
        window="as displayed",
        case_key=shown.volume.key[:16],
        patient_key=patient_key,
    )


def require_same_data(
    found: SampleDataset, data: str, settings: LearningSettings, questions: Path | None = None
) -> None:
    """Refuse to go on with a learning set that was made of something else.

    Raises:
        DatasetFolderError: it was.
        EvaluationDataError, DataUnavailableError: as :func:`learning_set`.
    """
    told = _told(open_rows(data, questions=questions, split=ALL), settings)
    if found.manifest.settings != json.loads(json.dumps(told)):
        raise DatasetFolderError(
            f"The folder {found.folder.name!r} holds a learning set of other data or with other "
            "settings. Go on with what it was begun with, or give a new folder."
        )


def _told(everything: RowSource, settings: LearningSettings) -> dict[str, Any]:
    """What the manifest tells of where a learning set comes from."""
    return {"data": everything.name, "sha256": everything.fingerprint, **asdict(settings)}


def _parts(
    data: str, questions: Path | None, settings: LearningSettings, left_out: LeftOut
) -> list[_Part]:
    everything = open_rows(data, questions=questions, split=ALL)
    salt, wanted = everything.fingerprint.encode(), _split_to_learn(everything, settings)

    def source(split: str) -> RowSource:
        return open_rows(data, questions=questions, split=split)

    def keeps(split: str) -> bool:
        return split in everything.splits and split != wanted

    tested = set(_patients(source(TEST), salt).values()) if keeps(TEST) else set()
    learnt = _permitted(source(wanted), settings, salt, left_out)
    learnt = _apart_from(tested, learnt, TESTED, left_out)
    if not keeps(VALIDATION):
        _require_any(learnt, left_out)
        by_patient = _divided(set(learnt.values()), settings.val_share)
        split_of = {place: by_patient[patient] for place, patient in learnt.items()}
        return [_Part(source(wanted), split_of, learnt)]
    validating = _permitted(source(VALIDATION), settings, salt, left_out)
    validating = _apart_from(tested, validating, TESTED, left_out)
    learnt = _apart_from(set(validating.values()), learnt, VALIDATES, left_out)
    _require_any(learnt, left_out)
    return [
        _Part(source(wanted), dict.fromkeys(learnt, TRAIN), learnt),
        _Part(source(VALIDATION), dict.fromkeys(validating, VALIDATION), validating),
    ]


def _apart_from(
    others: Collection[str], patients: Mapping[int, str], reason: str, left_out: LeftOut
) -> dict[int, str]:
    """Without the rows of some patients, which are counted."""
    kept = {place: patient for place, patient in patients.items() if patient not in others}
    if len(kept) < len(patients):
        left_out.add("", reason, len(patients) - len(kept))
    return kept


def _require_any(learnt: Collection[int], left_out: LeftOut) -> None:
    if not learnt:
        raise NoSamplesError(f"Nothing of the data set may be trained on.{in_words(left_out)}")


def in_words(left_out: LeftOut) -> str:
    """How many rows are left out for which reason; empty where none is."""
    reasons = Counter[str]()
    for _, reason, count in left_out:
        reasons[reason] += count
    told = "; ".join(f"{count} because {reason}" for reason, count in reasons.items() if count)
    return f" Left out: {told}." if told else ""


def _divided(patients: Collection[str], val_share: float) -> dict[str, str]:
    """The split of each patient; where any validate, at least two do, or nothing has a spread."""
    if val_share and len(patients) < 2:
        raise TooFewPatientsError(
            "The rows that may be trained on are of one patient; a training and a validation split "
            "need at least 2, as no patient may stand in both. An image is its own patient where "
            "the data set tells none."
        )
    found = assign_splits(patients, val_share)
    least = min(_LEAST_VALIDATING, len(patients) - 1) if val_share else 0
    return found | dict.fromkeys(sorted(patients)[:least], VALIDATION)


def _split_to_learn(source: RowSource, settings: LearningSettings) -> str:
    if settings.split is not None:
        return settings.split
    if TRAIN in source.splits:
        return TRAIN
    if source.splits == {""}:
        return ALL
    has = ", ".join(sorted(name for name in source.splits if name))
    raise EvaluationDataError(
        f"The data set {source.name!r} has no split to learn from; it has: {has}. Name one with "
        "--split if it is not kept for measuring."
    )


def _permitted(
    source: RowSource, settings: LearningSettings, salt: bytes, left_out: LeftOut
) -> dict[int, str]:
    """The patient's pseudonym of each row that may be learnt from, by its place."""
    found = {}
    for place, row in _rows(source, range(source.count)):
        reason = why_not_to_train_on(row)
        if reason is None and row.super_category in settings.held_out_super_categories:
            reason = HELD_OUT
        if reason is None:
            found[place] = _patient(row, salt)
        else:
            left_out.add(row.category, reason)
    return found


def _patients(source: RowSource, salt: bytes) -> dict[int, str]:
    """The patient's pseudonym of each row, by its place."""
    return {place: _patient(row, salt) for place, row in _rows(source, range(source.count))}


def _patient(row: EvaluationRow, salt: bytes) -> str:
    return pseudonym(row.patient or _image_sha256(row), salt)


def _image_sha256(row: EvaluationRow) -> str:
    """An image is its own patient where the data set tells none."""
    if isinstance(row.image, Path):
        return files_sha256(row.image)
    return hashlib.sha256(row.image).hexdigest()


def _rows(source: RowSource, places: Sequence[int]) -> Iterator[tuple[int, EvaluationRow]]:
    return zip(places, source.read(places), strict=True)
