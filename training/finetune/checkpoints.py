# SPDX-License-Identifier: Apache-2.0
"""Which checkpoint a run may resume from, and whether the disk holds the next ones.

The trainer writes a checkpoint file by file; a crash leaves some of them. A checkpoint therefore
counts only once ``complete.json`` lies in it, which is written last and holds the size of every
file.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from medreasoner_infer.atomic import write_durably
from medreasoner_training.finetune.errors import DiskFullError
from medreasoner_training.finetune.settings import RunSettings

COMPLETE_FILE = "complete.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
# Weights and both moments of AdamW, each in float32.
_CHECKPOINT_BYTES_PER_WEIGHT = 12
# The candidate in float32: as trained and blended in the run's folder, and once in the store.
_CANDIDATE_BYTES_PER_WEIGHT = 12
_GIB = 2**30


def mark_complete(checkpoint: Path) -> None:
    """Say that every file of a checkpoint is written."""
    write_durably(checkpoint / COMPLETE_FILE, json.dumps(_sizes(checkpoint), indent=2) + "\n")


def is_complete(checkpoint: Path) -> bool:
    """Whether it was written to its end and still has all of its files."""
    try:
        recorded = json.loads((checkpoint / COMPLETE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    sizes = _sizes(checkpoint)
    return all(sizes.get(name) == size for name, size in recorded.items())


def newest_complete(stage_dir: Path) -> Path | None:
    """The checkpoint to resume from, if there is one; damaged and unfinished ones are skipped."""
    complete = (path for path in _checkpoints(stage_dir) if is_complete(path))
    return max(complete, key=step_of, default=None)


def remove_unfinished(stage_dir: Path) -> None:
    """Remove what a crash left, which would else be counted among the checkpoints to keep."""
    for path in _checkpoints(stage_dir):
        if not is_complete(path):
            shutil.rmtree(path)


def step_of(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was written."""
    match = _CHECKPOINT.fullmatch(checkpoint.name)
    return int(match[1]) if match else 0


def require_space(folder: Path, trained_weights: int, run: RunSettings) -> None:
    """Check, before anything is computed, that checkpoints and the candidate will fit.

    Args:
        folder: where they will lie.
        trained_weights: number of weights that learn: all of a model, or those of an adapter.
        run: how many checkpoints are kept; one more is written before the oldest is removed.

    Raises:
        DiskFullError: they will not.
    """
    checkpoints = (run.keep_checkpoints + 1) * _CHECKPOINT_BYTES_PER_WEIGHT
    needed = (checkpoints + _CANDIDATE_BYTES_PER_WEIGHT) * trained_weights
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(
            f"The disk of {folder} has {free / _GIB:.1f} GiB free; checkpoints and candidate need "
            f"about {needed / _GIB:.1f} GiB. Free some, lower run.keep_checkpoints, or use LoRA."
        )


def _checkpoints(stage_dir: Path) -> list[Path]:
    return [path for path in stage_dir.glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name)]


def _sizes(checkpoint: Path) -> dict[str, int]:
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file())
    return {
        path.relative_to(checkpoint).as_posix(): path.stat().st_size
        for path in files
        if path.name != COMPLETE_FILE
    }
