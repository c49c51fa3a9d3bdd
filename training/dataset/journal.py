# SPDX-License-Identifier: Apache-2.0
"""Lines of JSON that survive a kill: each is on the disk whole, or counts as not written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from medreasoner_infer.atomic import sync_folder
from medreasoner_training.dataset.errors import BuildError


class JsonLines:
    """Values in the order in which they were appended; what a kill cut short is cut off.

    Args:
        path: of the file, which may be there from an earlier run.

    Raises:
        BuildError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.values: list[Any] = []
        if path.exists():
            self._resume()

    def append(self, value: Any) -> None:
        """Add a value, which survives a loss of power from now on."""
        with self._path.open("ab") as file:
            file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if not self.values:
            sync_folder(self._path.parent)
        self.values.append(value)

    def _resume(self) -> None:
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self._path, whole)
        try:
            self.values = [json.loads(line) for line in content[:whole].splitlines()]
        except ValueError as error:
            raise BuildError(
                f"{self._path.name} of an unfinished build is damaged. Remove its folder "
                f"{self._path.parent.name!r} to start again."
            ) from error
