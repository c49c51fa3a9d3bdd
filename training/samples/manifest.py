# SPDX-License-Identifier: Apache-2.0
"""The manifest of a data set: what it holds, how it was made, and the hash of every file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter

from medreasoner_training.samples.errors import DatasetFolderError

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"
_FORMAT = "medreasoner samples"


@dataclass
class SplitCounts:
    """Rows and patients of a split, and for each label name its rows with and without target."""

    rows: int = 0
    patients: int = 0
    present: dict[str, int] = field(default_factory=dict)
    absent: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOutCount:
    """How often something was not used; ``label_name`` is empty for a whole label file."""

    label_name: str
    reason: str
    count: int


@dataclass(frozen=True)
class Manifest:
    """See the module.

    ``left_out`` became no sample, ``refused_questions`` are those that a language model wrote in
    vain, ``notes`` count what whoever trains should know of the patients, ``files`` maps a name
    within the folder to the file's SHA-256.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    created_at: str
    code_version: str
    settings: Mapping[str, Any]
    splits: Mapping[str, SplitCounts]
    left_out: tuple[LeftOutCount, ...]
    files: Mapping[str, str]
    refused_questions: tuple[LeftOutCount, ...] = ()
    notes: tuple[LeftOutCount, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(split.rows for split in self.splits.values())

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        return json.dumps({"format": _FORMAT, **dataclasses.asdict(self)}, indent=2) + "\n"


_SCHEMA = TypeAdapter(Manifest)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the data set in ``folder``.

    Raises:
        DatasetFolderError: there is none, or it is damaged or of another schema.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise DatasetFolderError(
            f"The folder holds no {MANIFEST_NAME}, so it is no data set of samples. Give the "
            "folder that 'medreasoner export' wrote."
        )
    try:
        values = json.loads(path.read_bytes())
        kind, version = (values.pop(key, None) for key in ("format", "schema_version"))
        if (kind, version) == (_FORMAT, SCHEMA_VERSION):
            return _SCHEMA.validate_python(values)
        reason = f"of format {kind!r}, version {version!r}"
    except (ValueError, AttributeError, TypeError) as error:
        reason = f"damaged ({type(error).__name__})"
    raise DatasetFolderError(
        f"{MANIFEST_NAME} is {reason}; expected {_FORMAT!r}, version {SCHEMA_VERSION}. Export the "
        "data set again with this version."
    )
