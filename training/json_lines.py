# SPDX-License-Identifier: Apache-2.0
"""Lines of JSON that survive a kill: each is on the disk whole, or counts as not written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from medreasoner_infer.atomic import sync_folder
from medreasoner_infer.errors import MedReasonerError

_Value = TypeVar("_Value")


class JsonLines(Generic[_Value]):
    """Values in the order in which they were appended; what a kill cut short is cut off.

    Args:
        path: of the file, which may be there from an earlier run.
        damaged: raised where the file holds something else than such lines.
        read: a value from its line.
        written: what of a value is written, as JSON.

    Raises:
        MedReasonerError: ``damaged``.
    """

    def __init__(
        self,
        path: Path,
        damaged: MedReasonerError,
        read: Callable[[bytes], _Value] = json.loads,
        written: Callable[[_Value], object] = lambda value: value,
    ) -> None:
        self.path, self._damaged, self._read, self._written = path, damaged, read, written
        self.values: list[_Value] = []
        if path.exists():
            self._resume()

    def append(self, value: _Value) -> None:
        """Add a value, which survives a loss of power from now on."""
        with self.path.open("ab") as file:
            file.write(json.dumps(self._written(value), ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if not self.values:
            sync_folder(self.path.parent)
        self.values.append(value)

    def _resume(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self.path, whole)
        try:
            self.values = [self._read(line) for line in content[:whole].splitlines()]
        except ValueError as error:
            raise self._damaged from error
