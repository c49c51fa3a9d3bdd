# SPDX-License-Identifier: Apache-2.0
"""Data sets of the Hugging Face hub in the schema of U-MRG-14K, by the ``datasets`` library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from medreasoner_infer.errors import MissingExtraError
from medreasoner_training.evaluation.errors import DataUnavailableError, EvaluationDataError
from medreasoner_training.evaluation.readers.parquet import evaluation_row
from medreasoner_training.evaluation.readers.splits import ALL, chosen_split
from medreasoner_training.evaluation.rows import EvaluationRow, RowSource, text_sha256
from medreasoner_training.samples import require_columns

if TYPE_CHECKING:
    from datasets import Dataset


def hub_rows(name: str, split: str | None) -> RowSource:
    """Download a data set, or take it from the cache; ``@REVISION`` behind its name pins a commit.

    Raises:
        DataUnavailableError: there is no network, no such data set, or it is gated.
        EvaluationDataError: no such split.
        RowSchemaError: it has other columns.
        MissingExtraError: the ``datasets`` package is not installed.
    """
    try:
        from datasets import concatenate_datasets, load_dataset
    except ModuleNotFoundError as error:
        raise MissingExtraError("datasets", "train") from error
    repository, _, revision = name.partition("@")
    try:
        found = load_dataset(repository, revision=revision or None)  # nosec B615
    except (OSError, ValueError) as error:  # no network, gated or unknown; no data in it
        raise DataUnavailableError(
            f"The data set {name!r} of the Hugging Face hub cannot be had: this machine is "
            "offline, there is no such data set, or access must be granted first "
            f"({type(error).__name__}). Where there is a network, fetch it with 'hf download "
            f"--repo-type dataset {repository} --local-dir FOLDER', and give the folder."
        ) from error
    chosen = chosen_split(set(found), split)
    rows = concatenate_datasets(list(found.values())) if chosen == ALL else found[chosen]
    require_columns(rows.column_names)
    if not len(rows):
        raise EvaluationDataError(f"The split {chosen!r} of {name!r} holds no row.")
    stored = rows.with_format("arrow")  # pictures stay encoded
    fingerprint = text_sha256(name, chosen, rows._fingerprint)
    splits = frozenset(map(str, found))
    return RowSource(
        name, chosen, fingerprint, len(rows), lambda places: _read(stored, places), splits
    )


def _read(stored: Dataset, places: Sequence[int]) -> Iterator[EvaluationRow]:
    for place in places:
        yield evaluation_row(stored[place].to_pylist()[0])
