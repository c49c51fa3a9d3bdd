# SPDX-License-Identifier: Apache-2.0
"""What a run tells the outside while it goes on, and how the outside stops it.

Both are files of the run's folder, so that the run can be any process of the machine:
``progress.json``, replaced at one stroke, and ``stop``, whose existence is the request.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.atomic import write_durably
from medreasoner_training.finetune.errors import ProgressError

PROGRESS_FILE = "progress.json"
STOP_FILE = "stop"


class State(str, Enum):
    """Where a run is; the last five are ends."""

    PREPARING = "preparing"
    TRAINING = "training"
    EVALUATING = "evaluating"
    COMPARING = "comparing"
    PROMOTED = "promoted"
    REFUSED = "refused"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"

    @property
    def is_end(self) -> bool:
        """Whether the run is over."""
        return self in _ENDS


_ENDS = frozenset({State.PROMOTED, State.REFUSED, State.STOPPED, State.FAILED, State.FINISHED})


@dataclass(frozen=True)
class Progress:
    """A moment of a run.

    Attributes:
        state: where it is. ``finished`` means compared only, as ``promotion.promote`` is false.
        step: optimiser steps done, of the cold start and of the main method together.
        total_steps: of both; 0 while unknown.
        reward: mean reward of the last logged step; ``None`` before and in supervised training.
        held_out_iou: mean greedy box IoU of the last evaluation, 0...1; ``None`` before it.
        best_iou: highest of them.
        seconds_elapsed: since the run was started or resumed.
        seconds_left: estimate of the training that is left; ``None`` while unknown.
        message: one sentence for the user; the reason of a failure.
        candidate: name in the store, once it is there.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    state: State
    step: int = 0
    total_steps: int = 0
    reward: float | None = None
    held_out_iou: float | None = None
    best_iou: float | None = None
    seconds_elapsed: float = 0.0
    seconds_left: float | None = None
    message: str = ""
    candidate: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON can hold."""
        return {**asdict(self), "state": self.state.value}


_SCHEMA = TypeAdapter(Progress)


def write_progress(run_dir: Path, progress: Progress) -> None:
    """Replace ``progress.json``; only one process of a run may write it.

    Raises:
        ValueError: a figure is NaN or infinite, which JSON cannot hold.
    """
    text = json.dumps(progress.to_dict(), indent=2, allow_nan=False) + "\n"
    write_durably(run_dir / PROGRESS_FILE, text)


def read_progress(run_dir: Path) -> Progress:
    """What the run in ``run_dir`` told last.

    Raises:
        ProgressError: it told nothing yet, or the file is damaged.
    """
    path = run_dir / PROGRESS_FILE
    try:
        return _SCHEMA.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ProgressError(
            f"{run_dir} holds no {PROGRESS_FILE}; expected the folder of a run that was started."
        ) from error
    except OSError as error:
        raise ProgressError(f"{path} cannot be read ({error}).") from error
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise ProgressError(f"{path} holds no progress of a run ({problem}).") from error


def request_stop(run_dir: Path) -> None:
    """Ask the run to save a checkpoint after its current step and to end."""
    (run_dir / STOP_FILE).touch()


def stop_requested(run_dir: Path) -> bool:
    """Whether the run was asked to stop."""
    return (run_dir / STOP_FILE).exists()


def clear_stop(run_dir: Path) -> None:
    """Forget an earlier request, so that a resumed run goes on."""
    (run_dir / STOP_FILE).unlink(missing_ok=True)
