# SPDX-License-Identifier: Apache-2.0
"""A folder of parquet files of U-MRG-14K as a data set that is trained on.

The files have no manifest, so that nothing tells whether they were changed; their hashes name the
data set from then on. A row that tells no patient is one by itself. Trainings validate on the
``validation`` files, or the ``test`` ones where there are none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medreasoner_infer
from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.hashing import files_sha256
from medreasoner_training.samples.errors import DatasetFolderError, LicenceRefusedError
from medreasoner_training.samples.manifest import Manifest, SplitCounts
from medreasoner_training.samples.schema import features, require_columns
from medreasoner_training.samples.split import TRAIN, VALIDATION

if TYPE_CHECKING:
    from pyarrow import Table

TEST = "test"
_SPLIT_OF_NAME = re.compile(r"(train|test|validation)(?:-\d+-of-\d+)?")
_ABSENT = "null"


def split_of(path: Path) -> str:
    """The split that a file belongs to by its name, else by its folder's; empty for none."""
    for name in (path.stem, path.parent.name):
        found = _SPLIT_OF_NAME.fullmatch(name)
        if found is not None:
            return found[1]
    return ""


def files_by_split(folder: Path) -> dict[str, list[Path]]:
    """The parquet files of a folder that trainings train on, and those that they validate on.

    Raises:
        DatasetFolderError: one of the two kinds is missing.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        found.setdefault(split_of(path), []).append(path)
    held_out = found.get(VALIDATION) or found.get(TEST)
    if TRAIN not in found or not held_out:
        raise DatasetFolderError(
            "The folder holds neither a manifest.json, which 'medreasoner export' writes, nor "
            "parquet files of U-MRG-14K to train on and to validate on; expected names like "
            "train-00000-of-00001.parquet and test-00000-of-00001.parquet."
        )
    return {TRAIN: found[TRAIN], VALIDATION: held_out}


def umrg_manifest(folder: Path) -> Manifest:
    """What a manifest would tell of such a folder.

    Raises:
        DatasetFolderError: as :func:`files_by_split`.
        RowSchemaError: a file has other columns.
        LicenceRefusedError: a row to train on says that it may not be.
        MissingExtraError: pyarrow is not installed.
    """
    by_split = files_by_split(folder)
    _require_licences(by_split[TRAIN])
    files = [path for paths in by_split.values() for path in paths]
    return Manifest(
        created_at="",
        code_version=medreasoner_infer.__version__,
        settings={},
        splits={split: _counts(paths) for split, paths in by_split.items()},
        left_out=(),
        files={path.relative_to(folder).as_posix(): files_sha256(path) for path in files},
    )


def umrg_table(files: Sequence[Path]) -> Table:
    """The rows of some files in our columns; what U-MRG-14K does not tell is null.

    Raises:
        RowSchemaError: a file has other columns.
        MissingExtraError: pyarrow is not installed.
    """
    from pyarrow import Table, array, concat_tables

    schema = features().arrow_schema
    found = []
    for path in files:
        table = _read(path, schema.names)
        light = {
            name: table[name].to_pylist() for name in ("prompt", "reward_model", "data_source")
        }
        light["extra_info"] = _extra_info(table)
        columns = [
            array(light[field.name], field.type)
            if field.name in light
            else table[field.name].cast(field.type)
            for field in schema
        ]
        found.append(Table.from_arrays(columns, schema=schema))
    return concat_tables(found)


def _extra_info(table: Table) -> list[dict[str, Any]]:
    truths = [each["ground_truth"] for each in table["reward_model"].to_pylist()]
    return [
        {
            "id": info["id"],
            "index": info["index"],
            "category": info["category"],
            "present": (truth or _ABSENT).strip() != _ABSENT,
            "patient_key": info.get("patient_key") or info["id"],
            "modality": info.get("modality"),
            "reasoning": info.get("reasoning"),
        }
        for info, truth in zip(table["extra_info"].to_pylist(), truths, strict=True)
    ]


def _counts(files: Sequence[Path]) -> SplitCounts:
    counts, patients = SplitCounts(), set()
    for path in files:
        for info in _extra_info(_read(path, ("reward_model", "extra_info"))):
            by_label = counts.present if info["present"] else counts.absent
            by_label[info["category"]] = by_label.get(info["category"], 0) + 1
            counts.rows += 1
            patients.add(info["patient_key"])
    counts.patients = len(patients)
    return counts


def _require_licences(files: Sequence[Path]) -> None:
    refused = sum(
        info.get("may_train") is False
        for path in files
        for info in _read(path, ("extra_info",))["extra_info"].to_pylist()
    )
    if refused:
        raise LicenceRefusedError(
            f"{refused} rows of the training split say that their licence does not let them be "
            "trained on. Move them to the test split, or leave them out."
        )


def _read(path: Path, names: Sequence[str]) -> Table:
    try:
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyarrow", "train") from error
    with ParquetFile(path) as file:
        require_columns(file.schema_arrow.names)
        return file.read(list(names))
