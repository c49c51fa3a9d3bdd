# SPDX-License-Identifier: Apache-2.0
"""Files of one JSON object a line, which are only ever appended to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from medreasoner_infer.models.store.errors import StoreDamagedError

_Value = TypeVar("_Value")


def read_lines(
    path: Path, read: Callable[[dict[str, Any]], _Value], what: str
) -> tuple[_Value, ...]:
    """All values, oldest first; a last line that a crash cut short is not one.

    Args:
        path: of the file; none are read where there is none.
        read: a value from its fields.
        what: a line is, for the error.

    Raises:
        StoreDamagedError: if any other line is no value.
    """
    if not path.exists():
        return ()
    values = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            values.append(read(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreDamagedError(
                f"Line {number} of {path} is no {what} ({type(error).__name__}). Restore the file "
                "from a backup."
            ) from error
    return tuple(values)


def append_line(path: Path, fields: Mapping[str, Any]) -> None:
    """Add one line and wait until the disk has it; for one writer at a time."""
    with path.open("ab+") as file:
        file.truncate(_end_of_last_whole_line(path))
        file.write((json.dumps(fields, ensure_ascii=False) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def _end_of_last_whole_line(path: Path) -> int:
    """Bytes up to the last newline; what follows was cut short and never took effect."""
    return path.read_bytes().rfind(b"\n") + 1
