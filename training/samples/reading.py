# SPDX-License-Identifier: Apache-2.0
"""Reading a data set folder; every file is checked against its hash first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.hashing import files_sha256
from medreasoner_training.samples.errors import DatasetChangedError, DatasetFolderError
from medreasoner_training.samples.manifest import MANIFEST_NAME, Manifest, read_manifest

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class SampleDataset:
    """A data set whose files are those that were written.

    ``manifest_sha256`` names the data set as a whole: the manifest holds the hashes of all files.
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str

    def load(self, split: str) -> Dataset:
        """The rows of a split, in memory; nothing is copied into the ``datasets`` cache.

        Raises:
            DatasetFolderError: there is no such split.
            DatasetChangedError: its file has changed since the data set was opened.
            MissingExtraError: the ``datasets`` package is not installed.
        """
        names = [name for name in self.manifest.files if name.startswith(f"data/{split}-")]
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

        return Dataset(concat_tables(read_table(self.folder / name) for name in sorted(names)))


def open_dataset(folder: Path) -> SampleDataset:
    """Open a data set and verify every file.

    Raises:
        DatasetFolderError: the folder holds no data set of this schema.
        DatasetChangedError: a file is missing, changed, or was added.
    """
    manifest = read_manifest(folder)
    _verify(folder, manifest.files)
    found = {path.relative_to(folder).as_posix() for path in folder.glob("data/*")}
    added = sorted(found - set(manifest.files))
    if added:
        raise DatasetChangedError(
            f"The file {added[0]!r} is not in the manifest: it was added later. Remove it, or "
            "export the data set again."
        )
    return SampleDataset(folder, manifest, files_sha256(folder / MANIFEST_NAME))


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
