# SPDX-License-Identifier: Apache-2.0
"""A data set in another format that an evaluation reads, without a loss that nobody agreed to."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from medreasoner_infer.atomic import replacing_folder
from medreasoner_training.dataset.errors import ConversionError
from medreasoner_training.dataset.opening import open_case
from medreasoner_training.dataset.pairs import SPLITS
from medreasoner_training.dataset.storing import (
    ABSENT,
    SplitFiles,
    StoredQuestion,
    image_png,
    mask_png,
    question_id,
)
from medreasoner_training.evaluation import EvaluationDataError, EvaluationRow, RowSource
from medreasoner_training.evaluation.pictures import Case
from medreasoner_training.samples import require_free
from medreasoner_training.samples.geometry import truth_on_square
from medreasoner_training.samples.manifest import MANIFEST_NAME
from medreasoner_training.samples.schema import ground_truth_json

Format = Literal["umrg", "manifest", "pictures"]
FORMATS: tuple[Format, ...] = get_args(Format)
TABLE_NAME = "questions.csv"
COLUMNS = (
    "id", "image", "mask", "question", "category", "super_category", "modality", "patient",
    "split", "licence", "may_train", "kind", "language", "reasoning",
)  # fmt: skip
LOST_TRUTH = "the stored box or key points are not those of the mask, which alone would be kept"
LOST_TARGET = "the target is present but has no mask, so that its place would be lost"
LOST_SPLIT = "the split is none of train, validation and test"
OnRow = Callable[[int, int], None]


class _Writer(Protocol):
    def losses(self, row: EvaluationRow, case: Case) -> Iterator[str]: ...
    def add(self, row: EvaluationRow, case: Case) -> None: ...
    def finish(self) -> None: ...


def convert_dataset(
    source: RowSource,
    to: Format,
    out: Path,
    *,
    allow_loss: bool = False,
    on_row: OnRow | None = None,
) -> int:
    """Write a data set into a new folder, whole or not at all; returns its rows.

    Args:
        source: of :func:`medreasoner_training.evaluation.open_rows`, of all splits.
        to: ``umrg`` (parquet), ``manifest`` (``manifest.json`` with ``questions.csv``) or
            ``pictures`` (``questions.csv``).
        out: new folder.
        allow_loss: write what the format can hold, and leave the rest out.
        on_row: called with (rows done, all rows).

    Raises:
        ConversionError: the format would lose something.
        EvaluationDataError: a row cannot be read, or there is none.
        DatasetFolderError: the output folder holds something.
        MissingExtraError: the packages for parquet are not installed.
    """
    require_free(out)
    if not source.count:
        raise EvaluationDataError("The data set holds no question.")
    losses: Counter[str] = Counter()
    with replacing_folder(out) as folder:
        folder.mkdir(mode=0o700)
        writer: _Writer = _Parquet(folder) if to == "umrg" else _Pictures(folder, to == "manifest")
        for number, row in enumerate(source.read(range(source.count)), start=1):
            case = open_case(row)
            losses.update(writer.losses(row, case))
            if not losses or allow_loss:
                writer.add(row, case)
            if on_row is not None:
                on_row(number, source.count)
        if losses and not allow_loss:
            why = "; ".join(f"{count} rows: {reason}" for reason, count in losses.most_common())
            raise ConversionError(
                f"The format {to!r} cannot hold all of this data set. {why}. Choose another "
                "format, or say that the loss is allowed."
            )
        writer.finish()
    return source.count


class _Parquet:
    """The schema of U-MRG-14K, with what it does not tell beside it."""

    def __init__(self, folder: Path) -> None:
        self._files = SplitFiles(folder)

    def losses(self, row: EvaluationRow, case: Case) -> Iterator[str]:
        if row.split not in ("", *SPLITS):
            yield LOST_SPLIT

    def add(self, row: EvaluationRow, case: Case) -> None:
        shape = case.shown.mapping.shape_hw
        mask = np.zeros(shape, bool) if case.mask is None else case.mask
        self._files.add(
            StoredQuestion(
                id=row.id or question_id(row.question),
                image=_bytes(row, case),
                mask=mask_png(mask),
                ground_truth=_stored_truth(row, case),
                question=row.question,
                category=row.category,
                super_category=row.super_category,
                modality=row.modality,
                patient=row.patient,
                split=row.split if row.split in SPLITS else "",
                licence=row.licence,
                may_train=row.may_train,
                kind=row.kind,
                language=row.language,
                reasoning=row.reasoning,
            )
        )

    def finish(self) -> None:
        self._files.finish()


@dataclass
class _Pictures:
    """Pictures with a table of questions, and with a manifest of the pairs if it is wanted."""

    folder: Path
    with_manifest: bool
    _table: list[dict[str, Any]] = field(default_factory=list)
    _listed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def losses(self, row: EvaluationRow, case: Case) -> Iterator[str]:
        if case.truth is None:
            return
        if case.mask is None:
            yield LOST_TARGET
        elif not _is_of_mask(case):
            yield LOST_TRUTH

    def add(self, row: EvaluationRow, case: Case) -> None:
        image = self._kept("images", image_png(case.shown.image.pixels))
        if case.truth is not None and case.mask is None:
            return
        mask = ""
        if case.mask is not None:
            mask = self._kept("masks", mask_png(case.mask), image, row.category)
        told = {name: getattr(row, name) for name in COLUMNS if name not in ("image", "mask")}
        told["may_train"] = "" if row.may_train is None else str(row.may_train).lower()
        self._table.append({**told, "image": image, "mask": mask})
        if mask:
            self._list(row, image, mask)

    def finish(self) -> None:
        with (self.folder / TABLE_NAME).open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(self._table)
        if self.with_manifest:
            text = json.dumps([*self._listed.values()], indent=1, ensure_ascii=False)
            (self.folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")

    def _list(self, row: EvaluationRow, image: str, mask: str) -> None:
        told: Mapping[str, Any] = {
            "image": image, "mask": mask, "label": row.category,
            "super_category": row.super_category, "modality": row.modality,
            "patient": row.patient, "split": row.split, "licence": row.licence,
            "may_train": row.may_train,
        }  # fmt: skip
        self._listed.setdefault(mask, dict(told))

    def _kept(self, kind: str, content: bytes, *belongs_to: str) -> str:
        """The name of a file with this content, named by it, so that rows share their pictures."""
        name = f"{kind}/{question_id(content.hex(), *belongs_to)}.png"
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_bytes(content)
        return name


def _bytes(row: EvaluationRow, case: Case) -> bytes:
    """The picture as the row stores it; one in a file is drawn anew, without its metadata."""
    return row.image if isinstance(row.image, bytes) else image_png(case.shown.image.pixels)


def _stored_truth(row: EvaluationRow, case: Case) -> str:
    """What the row tells, else whole pixels of what its mask does."""
    if row.ground_truth is not None:
        return row.ground_truth
    truth = None if case.mask is None else truth_on_square(case.mask)
    if truth is None:
        return ABSENT
    return ground_truth_json(truth.bbox_xyxy_px, truth.points_xy_px)


def _is_of_mask(case: Case) -> bool:
    """Whether a reader that has the mask alone finds the same box and points, to the pixel."""
    truth, of_mask = case.truth, None if case.mask is None else truth_on_square(case.mask)
    if truth is None or of_mask is None:
        return truth is None
    return bool(
        np.array_equal(truth.bbox_xyxy_px, of_mask.bbox_xyxy_px)
        and np.array_equal(np.floor(truth.points_xy_px), of_mask.points_xy_px)
    )
