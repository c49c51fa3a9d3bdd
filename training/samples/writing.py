# SPDX-License-Identifier: Apache-2.0
"""Writing a data set folder, whole or not at all.

Rows go straight into the Parquet files: the ``datasets`` library would first write them into its
cache in the user's home, where images of patients have no place.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medreasoner_infer
from medreasoner_infer.atomic import replacing_folder
from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.hashing import files_sha256
from medreasoner_training.samples.cases import LeftOut, Sample
from medreasoner_training.samples.errors import (
    DatasetFolderError,
    NoSamplesError,
    TooFewPatientsError,
)
from medreasoner_training.samples.manifest import (
    MANIFEST_NAME,
    LeftOutCount,
    Manifest,
    SplitCounts,
)
from medreasoner_training.samples.schema import features, to_row

if TYPE_CHECKING:
    from pyarrow import Schema
    from pyarrow.parquet import ParquetWriter

_ROWS_PER_GROUP = 64


class DatasetWriter:
    """Takes samples one at a time; :func:`writing_dataset` makes one and finishes the folder."""

    def __init__(self, folder: Path, splits: tuple[str, ...], schema: Schema) -> None:
        self.counts = {split: SplitCounts() for split in splits}
        self._folder = folder
        self._schema = schema
        self._pending: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._patients: dict[str, set[str]] = defaultdict(set)
        self._open = ExitStack()
        self._files: dict[str, ParquetWriter] = {}

    def add(self, sample: Sample, split: str) -> None:
        """Append a sample to a split.

        Raises:
            TooFewPatientsError: another sample of the patient stands in another split.
        """
        for other, patients in self._patients.items():
            if other != split and sample.patient_key in patients:
                raise TooFewPatientsError(
                    f"A patient of the {other} split was given for {split} as well; all samples "
                    "of a patient belong in one split."
                )
        counts = self.counts[split]
        self._patients[split].add(sample.patient_key)
        self._pending[split].append(to_row(sample, counts.rows))
        by_label = counts.present if sample.present else counts.absent
        by_label[sample.label_name] = by_label.get(sample.label_name, 0) + 1
        counts.rows += 1
        counts.patients = len(self._patients[split])
        if len(self._pending[split]) >= _ROWS_PER_GROUP:
            self._write_pending(split)

    def finish(self) -> dict[str, str]:
        """Close the files; their names within the folder and their SHA-256."""
        for split in list(self._pending):
            self._write_pending(split)
        self.close()
        return {
            path.relative_to(self._folder).as_posix(): files_sha256(path)
            for path in sorted((self._folder / "data").iterdir())
        }

    def close(self) -> None:
        """Close the files as they are."""
        self._open.close()

    def _write_pending(self, split: str) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        if split not in self._files:
            path = self._folder / "data" / f"{split}-00000-of-00001.parquet"
            self._files[split] = self._open.enter_context(ParquetWriter(path, self._schema))
        rows = self._pending.pop(split)
        self._files[split].write_table(pyarrow.Table.from_pylist(rows, self._schema))


@contextmanager
def writing_dataset(
    out: Path,
    splits: tuple[str, ...],
    settings: Mapping[str, Any],
    left_out: LeftOut,
    refused_questions: LeftOut | None = None,
    notes: LeftOut | None = None,
) -> Iterator[DatasetWriter]:
    """Write a data set into a folder that does not exist yet or is empty.

    The folder appears when the block has ended well, with its manifest; until then everything lies
    in a hidden folder beside it, which a fault removes.

    Args:
        out: folder to write.
        splits: names of the splits.
        settings: recorded in the manifest as they are.
        left_out: counted in the manifest; may grow within the block.
        refused_questions: likewise.
        notes: likewise.

    Raises:
        DatasetFolderError: ``out`` holds something already.
        MissingExtraError: the packages for writing are not installed.
        NoSamplesError: no sample was added.
        TooFewPatientsError: a split stayed empty.
    """
    require_free(out)
    schema = _schema()
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(out) as folder:
        for made in (folder, folder / "data"):
            made.mkdir(mode=0o700)
        writer = DatasetWriter(folder, splits, schema)
        try:
            yield writer
            files = writer.finish()
        finally:
            writer.close()
        _require_rows(writer.counts, left_out)
        manifest = Manifest(
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            code_version=medreasoner_infer.__version__,
            settings=settings,
            splits=writer.counts,
            left_out=_entries(left_out),
            files=files,
            refused_questions=_entries(refused_questions or LeftOut()),
            notes=_entries(notes or LeftOut()),
        )
        (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")


def require_free(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        DatasetFolderError: it does, or is no folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetFolderError(
            "The output folder exists and is not empty. A data set is never changed once written; "
            "give the name of a new folder."
        )


def _schema() -> Schema:
    try:
        return features().arrow_schema
    except ModuleNotFoundError as error:
        raise MissingExtraError("datasets", "train") from error


def _require_rows(counts: Mapping[str, SplitCounts], left_out: LeftOut) -> None:
    reasons = Counter[str]()
    for _, reason, count in left_out:
        reasons[reason] += count
    why = "; ".join(f"{count} times: {reason}" for reason, count in reasons.items())
    why = f" Left out, {why}." if why else ""
    if not any(split.rows for split in counts.values()):
        raise NoSamplesError(
            "Nothing became a sample. Submit labels with the tag 'final' that answer a question "
            f"or whose segments are named after anatomy.{why}"
        )
    empty = [name for name, split in counts.items() if not split.rows]
    if empty:
        raise TooFewPatientsError(
            f"The {empty[0]} split has no sample, as none of its patients' labels was usable. "
            "Approve labels of more patients, or give another validation share; 0 makes no such "
            f"split.{why}"
        )


def _entries(counted: LeftOut) -> tuple[LeftOutCount, ...]:
    return tuple(LeftOutCount(*entry) for entry in counted)
