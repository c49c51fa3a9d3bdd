# SPDX-License-Identifier: Apache-2.0
"""Keeps a run's ``progress.json`` up to date."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medreasoner_training.finetune.progress import Progress, State, write_progress


class ProgressWriter:
    """The run's present moment; every change is written at once, by the main process only.

    Args:
        run_dir: the run's folder.
        is_main: whether this process writes.
        clock: monotonic seconds.
    """

    def __init__(
        self, run_dir: Path, is_main: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run_dir = run_dir
        self._is_main = is_main
        self._clock = clock
        self._started_s = clock()
        self._stage_started: tuple[float, int] | None = None
        self.latest = Progress(State.PREPARING)

    def report(self, state: State, message: str, **changes: Any) -> None:
        """Enter a state, or say something new of it."""
        self._write(state=state, message=message, **changes)

    def begin_training(self, step: int) -> None:
        """Training goes on after ``step``; the time that is left is estimated from here on."""
        self._stage_started = (self._clock(), step)
        self._write(state=State.TRAINING, step=step, message="Training.")

    def step_done(self, step: int, reward: float | None = None) -> None:
        """An optimiser step is done."""
        left = None
        if self._stage_started is not None and step > self._stage_started[1]:
            began_s, began_step = self._stage_started
            pace_s = (self._clock() - began_s) / (step - began_step)
            left = pace_s * max(0, self.latest.total_steps - step)
        known = reward is not None and math.isfinite(reward)
        self._write(
            state=State.TRAINING,
            step=step,
            seconds_left=left,
            reward=reward if known else self.latest.reward,
            message=f"Step {step} of {self.latest.total_steps}.",
        )

    def evaluated(self, iou: float | None) -> None:
        """Held-out samples were answered."""
        known = [value for value in (iou, self.latest.best_iou) if value is not None]
        self._write(held_out_iou=iou, best_iou=max(known, default=None))

    def _write(self, **changes: Any) -> None:
        elapsed = self._clock() - self._started_s
        self.latest = dataclasses.replace(self.latest, seconds_elapsed=elapsed, **changes)
        if self._is_main:
            write_progress(self._run_dir, self.latest)
