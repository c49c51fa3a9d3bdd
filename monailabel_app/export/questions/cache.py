# SPDX-License-Identifier: Apache-2.0
"""Written questions on the disk: a data set can be made again, and nothing is asked twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medreasoner_infer.atomic import replacing


@dataclass(frozen=True)
class WrittenSet:
    """What came of asking a model about one structure.

    Attributes:
        questions: that may be asked, in the order in which they were written.
        refused: how often a question or answer was refused, by reason.
    """

    questions: tuple[str, ...]
    refused: Mapping[str, int] = field(default_factory=dict)


class QuestionCache:
    """One JSON file for each structure in a folder; deleting a file has it written anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: Mapping[str, Any]) -> WrittenSet | None:
        """What was written for ``key``; a damaged file counts as none."""
        try:
            kept = json.loads(self._path(key).read_text(encoding="utf-8"))
            return WrittenSet(tuple(kept["questions"]), dict(kept["refused"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: Mapping[str, Any], written: WrittenSet) -> None:
        """Keep it; atomic, so that several exports may share the folder."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = json.dumps({"key": dict(key), **asdict(written)}, indent=2, ensure_ascii=False)
        with replacing(self._path(key), ".json") as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")

    def _path(self, key: Mapping[str, Any]) -> Path:
        text = json.dumps(dict(key), sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
