# SPDX-License-Identifier: Apache-2.0
"""Rows as parquet files in the schema of U-MRG-14K, with what it does not tell beside it.

The rows of one image follow each other and share its bytes by the format's dictionaries.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.hashing import files_sha256
from medreasoner_training.samples.schema import features

if TYPE_CHECKING:
    from pyarrow import Schema
    from pyarrow.parquet import ParquetWriter

SPLIT_FILE = "data/{split}-00000-of-00001.parquet"
#: File of rows that belong to no split.
NO_SPLIT_FILE = "data/rows.parquet"
DATA_SOURCE = "umrg"
#: Ground truth of an absent target.
ABSENT = "null"
_ROWS_PER_GROUP = 128
_DICTIONARY_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class StoredQuestion:
    """A row that is ready to be written; pixels are those of ``image``.

    Attributes:
        id: of the row.
        image: an encoded picture.
        mask: likewise, 0 and 255; all 0 where the target is absent.
        ground_truth: box and key points, JSON; ``null`` where the target is absent.
        question: in words.
        category: name of the target.
        super_category: of the category.
        modality: in the data set's words.
        patient: pseudonym; empty where nobody told it, as are the next ones.
        split: ``train``, ``validation`` or ``test``.
        licence: of the row.
        may_train: ``None`` where nobody told it.
        kind: ``implicit`` or ``explicit``.
        language: of the question.
        reasoning: trace.
        source: who wrote the question.
        model: likewise, where it was one.
    """

    id: str
    image: bytes
    mask: bytes
    ground_truth: str
    question: str
    category: str
    super_category: str
    modality: str
    patient: str
    split: str
    licence: str
    may_train: bool | None
    kind: str
    language: str
    reasoning: str
    source: str = ""
    model: str | None = None


def question_id(*parts: str) -> str:
    """16 hexadecimal digits for image, target and question."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


class SplitFiles:
    """Writes rows into a file for each split, below a folder that is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._schema = stored_schema()
        self._open = ExitStack()
        self._files: dict[str, ParquetWriter] = {}
        self._pending: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, row: StoredQuestion) -> None:
        """Append a row to the file of its split."""
        self._pending[row.split].append(to_row(row, self._counts[row.split]))
        self._counts[row.split] += 1
        if len(self._pending[row.split]) >= _ROWS_PER_GROUP:
            self._write(row.split)

    def finish(self) -> dict[str, str]:
        """Close the files; their names within the folder and their SHA-256."""
        for split in list(self._pending):
            self._write(split)
        self.close()
        names = sorted(map(_file_of, self._files))
        return {name: files_sha256(self._folder / name) for name in names}

    def close(self) -> None:
        """Close the files as they are."""
        self._open.close()

    def _write(self, split: str) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        if split not in self._files:
            path = self._folder / _file_of(split)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._files[split] = self._open.enter_context(
                ParquetWriter(path, self._schema, dictionary_pagesize_limit=_DICTIONARY_BYTES)
            )
        rows = self._pending.pop(split)
        self._files[split].write_table(pyarrow.Table.from_pylist(rows, self._schema))


def stored_schema() -> Schema:
    """The columns of this project's data sets, and in ``extra_info`` what U-MRG-14K and we add.

    Raises:
        MissingExtraError: the packages for writing are not installed.
    """
    try:
        from datasets import Features, Value
    except ModuleNotFoundError as error:
        raise MissingExtraError("datasets", "train") from error
    columns, text = features(), Value("string")
    more = {
        "supercategory": text, "licence": text, "may_train": Value("bool"), "query_kind": text,
        "language": text,
    }  # fmt: skip
    return Features({**columns, "extra_info": {**columns["extra_info"], **more}}).arrow_schema


def to_row(row: StoredQuestion, index: int) -> dict[str, Any]:
    """A row as the parquet file holds it; ``index`` is its place in the split."""
    return {
        "images": [{"bytes": row.image, "path": None}],
        "masks": [{"bytes": row.mask, "path": None}],
        "prompt": [{"role": "user", "content": row.question}],
        "reward_model": {"style": "rule", "ground_truth": row.ground_truth},
        "extra_info": {
            "id": row.id,
            "index": index,
            "category": row.category,
            "supercategory": row.super_category,
            "present": row.ground_truth.strip() != ABSENT,
            "modality": row.modality,
            "query_source": row.source or None,
            "query_model": row.model,
            "query_kind": row.kind or None,
            "language": row.language or None,
            "reasoning": row.reasoning or None,
            "patient_key": row.patient or None,
            "licence": row.licence or None,
            "may_train": row.may_train,
        },
        "data_source": DATA_SOURCE,
    }


def _file_of(split: str) -> str:
    return SPLIT_FILE.format(split=split) if split else NO_SPLIT_FILE


def image_png(pixels: NDArray[np.uint8]) -> bytes:
    """Displayed pixels, uint8 (H, W) or (H, W, 3), as a picture in colour, without metadata."""
    return _png(pixels if pixels.ndim == 3 else np.repeat(pixels[..., np.newaxis], 3, axis=2))


def mask_png(mask: NDArray[np.bool_]) -> bytes:
    """A mask, bool (H, W), as a grey picture of 0 and 255."""
    return _png(np.where(mask, 255, 0).astype(np.uint8))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()
