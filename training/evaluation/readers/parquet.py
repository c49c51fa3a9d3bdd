# SPDX-License-Identifier: Apache-2.0
"""Parquet files in the schema of U-MRG-14K, ours too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.hashing import files_sha256
from medreasoner_training.evaluation.errors import EvaluationDataError
from medreasoner_training.evaluation.readers.splits import ALL, chosen_split
from medreasoner_training.evaluation.rows import EvaluationRow, RowSource
from medreasoner_training.samples import require_columns, split_of, stored_row

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_BATCH_ROWS = 16


def parquet_rows(name: str, files: Sequence[Path], split: str | None) -> RowSource:
    """The rows of some files; the split is what a file's name or folder says, ``test-…``.

    Raises:
        EvaluationDataError: no such split, or no parquet file.
        RowSchemaError: a file has other columns.
        MissingExtraError: pyarrow is not installed.
    """
    by_file = {path: split_of(path) for path in files}
    chosen = chosen_split(set(by_file.values()), split)
    taken = [path for path, own in by_file.items() if chosen in (ALL, own)]
    counts = [_rows_of(path) for path in taken]
    return RowSource(
        name,
        chosen,
        files_sha256(*taken),
        sum(counts),
        partial(_read, taken, counts),
        frozenset(by_file.values()),
    )


def evaluation_row(row: Mapping[str, Any]) -> EvaluationRow:
    """A row of such a table, its pictures still encoded.

    Raises:
        RowSchemaError: a column is missing or holds something else.
        EvaluationDataError: a picture is not in the table itself.
    """
    stored = stored_row(row)
    return EvaluationRow(
        id=stored.id,
        question=stored.question,
        image=_bytes(stored.image),
        mask=None if stored.mask is None else _bytes(stored.mask),
        ground_truth=stored.ground_truth,
        category=stored.category or "",
        super_category=stored.super_category or "",
        modality=stored.modality or "",
        patient=stored.patient or "",
        licence=stored.licence or "",
        may_train=stored.may_train,
        kind=stored.kind or "",
        language=stored.language or "",
        reasoning=stored.reasoning or "",
    )


def _bytes(picture: object) -> bytes:
    found = picture.get("bytes") if isinstance(picture, Mapping) else picture
    if not isinstance(found, bytes):
        raise EvaluationDataError(
            "A picture of the parquet file is not in the file itself; expected its bytes. Save the "
            "data set again with its pictures."
        )
    return found


def _open(path: Path) -> ParquetFile:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyarrow", "train") from error
    try:
        return ParquetFile(path)
    except ArrowInvalid as error:
        raise EvaluationDataError(
            f"{path.name} is no parquet file, or damaged. Copy it again."
        ) from error


def _rows_of(path: Path) -> int:
    with _open(path) as file:
        require_columns(file.schema_arrow.names)
        return int(file.metadata.num_rows)


def _read(
    files: Sequence[Path], counts: Sequence[int], places: Sequence[int]
) -> Iterator[EvaluationRow]:
    wanted, start = set(places), 0
    for path, count in zip(files, counts, strict=True):
        here = {place - start for place in wanted if start <= place < start + count}
        start += count
        if here:
            with _open(path) as file:
                split = split_of(path)
                yield from (replace(row, split=split) for row in _read_file(file, here))


def _read_file(file: ParquetFile, places: set[int]) -> Iterator[EvaluationRow]:
    start = 0
    for group in range(file.metadata.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        if any(start <= place < end for place in places):
            at = start
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group]):
                for offset in range(batch.num_rows):
                    if at + offset in places:
                        yield evaluation_row(batch.slice(offset, 1).to_pylist()[0])
                at += batch.num_rows
        start = end
