# SPDX-License-Identifier: Apache-2.0
"""Reading a data set folder; every file is checked against its hash first.

A folder of U-MRG-14K's own files is one too: see :mod:`~medreasoner_training.samples.umrg`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.hashing import files_sha256
from medreasoner_training.samples.errors import DatasetChangedError, DatasetFolderError
from medreasoner_training.samples.manifest import MANIFEST_NAME, Manifest, read_manifest
from medreasoner_training.samples.umrg import files_by_split, umrg_manifest, umrg_table

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class SampleDataset:
    """A data set whose files are those that were written.

    ``manifest_sha256`` names the data set as a whole: the manifest holds the hashes of all files.
    ``files`` are those of each split, within the folder; ``is_umrg`` tells that they are those of
    U-MRG-14K itself, which tell less.
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str
    files: Mapping[str, tuple[str, ...]]
    is_umrg: bool = False

    def load(self, split: str) -> Dataset:
        """The rows of a split, in memory; nothing is copied into the ``datasets`` cache.

        Raises:
            DatasetFolderError: there is no such split.
            DatasetChangedError: its file has changed since the data set was opened.
            MissingExtraError: the ``datasets`` package is not installed.
        """
        names = sorted(self.files.get(split, ()))
        if split not in self.manifest.splits or not names:
            has = ", ".join(self.manifest.splits)
            raise DatasetFolderError(f"The data set has no split {split!r}; it has: {has}.")
        _verify(self.folder, {name: self.manifest.files[name] for name in names})
        try:
            from datasets import Dataset
        except ModuleNotFoundError as error:
            raise MissingExtraError("datasets", "train") from error
        from pyarrow import concat_tables
        from pyarrow.parquet import read_table

        paths = [self.folder / name for name in names]
        if self.is_umrg:
            return Dataset(umrg_table(paths))
        return Dataset(concat_tables(read_table(path) for path in paths))


def open_dataset(folder: Path) -> SampleDataset:
    """Open a data set and verify every file.

    Raises:
        DatasetFolderError: the folder holds no data set of this schema.
        DatasetChangedError: a file is missing, changed, or was added.
        RowSchemaError: a parquet file without a manifest is none of U-MRG-14K.
    """
    if not (folder / MANIFEST_NAME).is_file() and any(folder.rglob("*.parquet")):
        return _open_umrg(folder)
    manifest = read_manifest(folder)
    _verify(folder, manifest.files)
    found = {path.relative_to(folder).as_posix() for path in folder.glob("data/*")}
    added = sorted(found - set(manifest.files))
    if added:
        raise DatasetChangedError(
            f"The file {added[0]!r} is not in the manifest: it was added later. Remove it, or "
            "export the data set again."
        )
    files = {
        split: tuple(name for name in manifest.files if name.startswith(f"data/{split}-"))
        for split in manifest.splits
    }
    return SampleDataset(folder, manifest, files_sha256(folder / MANIFEST_NAME), files)


def _open_umrg(folder: Path) -> SampleDataset:
    manifest = umrg_manifest(folder)
    files = {
        split: tuple(path.relative_to(folder).as_posix() for path in paths)
        for split, paths in files_by_split(folder).items()
    }
    hashes = json.dumps(manifest.files, sort_keys=True).encode()
    return SampleDataset(folder, manifest, hashlib.sha256(hashes).hexdigest(), files, is_umrg=True)


def _verify(folder: Path, files: Mapping[str, str]) -> None:
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise DatasetChangedError(
                f"The file {name!r} of the data set is missing. Copy or export the data set again."
            )
        actual = files_sha256(path)
        if actual != expected:
            raise DatasetChangedError(
                f"The file {name!r} has the SHA-256 {actual[:12]}…, the manifest says "
                f"{expected[:12]}…: it was changed or damaged. Copy or export the data set again."
            )
