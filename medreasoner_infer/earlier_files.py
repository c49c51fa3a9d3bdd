# SPDX-License-Identifier: Apache-2.0
"""Whether a file that would be replaced is one that the same program made before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path

from medreasoner_infer.errors import InputError


class WouldReplaceError(InputError):
    """A file is there that the program did not make, and nobody asked for its replacement."""


def require_replaceable(
    file: Path, is_ours: Callable[[Path], bool] | None = None, *, overwrite: bool = False
) -> None:
    """Check, before any work, that nobody else's file would be replaced.

    Args:
        file: that will be written.
        is_ours: whether a file is one that the same program makes anew; without it none is.
        overwrite: whether the replacement was asked for.

    Raises:
        WouldReplaceError: a file is there that the program did not make, or that cannot be read.
    """
    if overwrite or not os.path.lexists(file):
        return
    try:
        ours = is_ours is not None and is_ours(file)
    except OSError:
        ours = False
    if not ours:
        raise WouldReplaceError(
            f"{file} is there already and may be somebody's work; give another name, or replace it "
            "with --overwrite"
        )


def is_json_with(file: Path, keys: Collection[str]) -> bool:
    """Whether a file holds one JSON object that has all of these keys.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        values = json.loads(file.read_bytes())
    except ValueError:
        return False
    return isinstance(values, dict) and set(keys) <= set(values)
