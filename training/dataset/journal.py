# SPDX-License-Identifier: Apache-2.0
"""What an unfinished build keeps of its questions and of what a model has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medreasoner_training.dataset.errors import BuildError
from medreasoner_training.json_lines import JsonLines


def journal_at(path: Path) -> JsonLines[Any]:
    """The journal of a build, begun or gone on with.

    Raises:
        BuildError: the file is damaged.
    """
    damaged = BuildError(
        f"{path.name} of an unfinished build is damaged. Remove its folder {path.parent.name!r} to "
        "start again."
    )
    return JsonLines(path, damaged)
