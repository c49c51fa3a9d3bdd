# SPDX-License-Identifier: Apache-2.0
"""Which reader a data set has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from medreasoner_training.evaluation.errors import EvaluationDataError
from medreasoner_training.evaluation.readers.hub import hub_rows
from medreasoner_training.evaluation.readers.labelled import labelled_rows
from medreasoner_training.evaluation.readers.parquet import parquet_rows
from medreasoner_training.evaluation.readers.questions import QUESTION_FILES, question_rows
from medreasoner_training.evaluation.rows import RowSource
from medreasoner_training.samples import open_dataset
from medreasoner_training.samples.manifest import MANIFEST_NAME

EXPECTED = (
    "Expected a parquet file or a folder of them in the schema of U-MRG-14K, a data set that "
    "'medreasoner export' wrote, a folder with a manifest.json that lists images, masks and "
    "labels, a folder of images and masks with a questions.csv, or the id of a Hugging Face data "
    "set."
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w.-]+)?")


def open_rows(data: str, *, questions: Path | None = None, split: str | None = None) -> RowSource:
    """Open a data set of any format.

    Args:
        data: file, folder or Hugging Face id.
        questions: CSV or parquet table of questions; by default ``questions.csv`` or
            ``questions.parquet`` in the folder.
        split: to take; ``all`` for everything. By default ``test``, else ``validation``, where the
            data set has one of them.

    Raises:
        EvaluationDataError: of no known format, no such split, or not readable.
        DatasetChangedError: an exported data set is not as it was written.
        DataUnavailableError: the Hugging Face hub cannot be reached.
        MissingExtraError: the package that reads the format is not installed.
    """
    path = Path(data).expanduser()
    if path.is_file() and path.suffix == ".parquet":
        return parquet_rows(path.stem, [path], split)
    if path.is_dir():
        return _folder_rows(path, questions, split)
    if not path.exists() and _HUB_ID.fullmatch(data):
        return hub_rows(data, split)
    raise EvaluationDataError(f"{data!r} is no data set that can be read. {EXPECTED}")


def _folder_rows(folder: Path, questions: Path | None, split: str | None) -> RowSource:
    name = folder.resolve().name
    listed = _manifest(folder)
    if isinstance(listed, dict):
        files = sorted((folder / each) for each in open_dataset(folder).manifest.files)
        return parquet_rows(name, files, split)
    table = questions or next(
        (folder / each for each in QUESTION_FILES if (folder / each).is_file()), None
    )
    if isinstance(listed, list):
        return labelled_rows(name, folder, listed, table, split)
    if table is not None:
        return question_rows(name, folder, table, split)
    files = sorted(folder.rglob("*.parquet"))
    if files:
        return parquet_rows(name, files, split)
    raise EvaluationDataError(f"The folder {name!r} holds no data set. {EXPECTED}")


def _manifest(folder: Path) -> Any:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise EvaluationDataError(
            f"{MANIFEST_NAME} is damaged ({type(error).__name__}). Copy the data set again."
        ) from error
