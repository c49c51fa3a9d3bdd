# SPDX-License-Identifier: Apache-2.0
"""A folder whose ``manifest.json`` lists images with the mask of a label each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medreasoner_infer.hashing import files_sha256
from medreasoner_training.evaluation.errors import EvaluationDataError
from medreasoner_training.evaluation.readers.questions import question_row, read_questions
from medreasoner_training.evaluation.readers.splits import ALL, chosen_split
from medreasoner_training.evaluation.rows import RowSource
from medreasoner_training.samples.manifest import MANIFEST_NAME

_NEEDED = ("image", "mask", "label")
_OF_THE_IMAGE = ("modality", "patient", "licence", "split", "may_train")
_TOLD = ("super_category", *_OF_THE_IMAGE)
_NUMBERED = re.compile(r"\s+\d+$")


def labelled_rows(
    name: str, folder: Path, listed: Sequence[Any], table: Path | None, split: str | None
) -> RowSource:
    """The questions of a table about the listed pairs; without one, each label's name is asked for.

    A question belongs to the pair whose mask it names, or whose image and label where the table has
    no masks; a question without a mask asks for a target that is absent from its image.

    Args:
        name: of the data set.
        folder: holds the manifest.
        listed: its entries.
        table: of questions, see :func:`~.questions.read_questions`.
        split: to take.

    Raises:
        EvaluationDataError: an entry or a question lacks something, or they do not fit.
        MissingExtraError: pyarrow, which reads a parquet table, is not installed.
    """
    pairs = [_pair(entry, number) for number, entry in enumerate(listed, start=1)]
    asked = pairs if table is None else _joined(pairs, read_questions(table))
    splits = frozenset(row["split"] for row in asked)
    chosen = chosen_split(splits, split)
    rows = [
        question_row(folder, row, number)
        for number, row in enumerate(asked, start=1)
        if chosen in (ALL, row["split"])
    ]
    files = [folder / MANIFEST_NAME, *([] if table is None else [table])]
    return RowSource.of_list(name, chosen, files_sha256(*files), rows, splits)


def plain_name(label: str) -> str:
    """A label's name without the number that tells several of one image apart."""
    return _NUMBERED.sub("", label.replace("_", " ")).strip()


def _pair(entry: Any, number: int) -> dict[str, str]:
    if not isinstance(entry, Mapping) or any(
        not isinstance(entry.get(name), str) for name in _NEEDED
    ):
        raise EvaluationDataError(
            f"Entry {number} of {MANIFEST_NAME} has not the texts {', '.join(_NEEDED)}; expected "
            "those of an image with the mask of one label."
        )
    told = {name: _text(entry.get(name)) for name in _TOLD}
    name = plain_name(entry["label"])
    return told | {
        "id": Path(entry["mask"]).with_suffix("").as_posix(),
        "image": entry["image"],
        "mask": entry["mask"],
        "category": name,
        "label": entry["label"],
        "question": name,
    }


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _joined(
    pairs: Sequence[dict[str, str]], asked: Sequence[dict[str, str]]
) -> list[dict[str, str]]:
    """Questions with what the manifest tells of their pair, or of their image."""
    by_mask = {pair["mask"]: pair for pair in pairs}
    by_label = {(pair["image"], pair["label"]): pair for pair in pairs}
    of_image = {pair["image"]: {key: pair[key] for key in _OF_THE_IMAGE} for pair in pairs}
    found = []
    for number, row in enumerate(asked, start=1):
        if row.get("mask"):
            pair = by_mask.get(row["mask"])
        elif "mask" in row:
            pair = of_image.get(row["image"])
        else:
            pair = by_label.get((row["image"], row.get("category", "")))
        if pair is None:
            raise EvaluationDataError(
                f"Question {number} is about an image, mask or label that {MANIFEST_NAME} does not "
                "list."
            )
        own = {key: value for key, value in row.items() if value}
        found.append({"id": f"{number:05d}", **{k: v for k, v in pair.items() if k != "id"}, **own})
    return found
