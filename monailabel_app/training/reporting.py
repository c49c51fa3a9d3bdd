# SPDX-License-Identifier: Apache-2.0
"""A run's progress in words, and as MONAI Label's viewers read it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from medreasoner_training.finetune import Progress, State

_LINE_EVERY_S = 30.0
_LINE_EVERY_PERCENT = 5
_COUNTED = re.compile(r"(\d+) of (\d+)")
_DOING = {
    State.PREPARING: "Preparing",
    State.TRAINING: "Training",
    State.EVALUATING: "Evaluating on held-out samples",
    State.COMPARING: "Comparing with the live model",
    State.PROMOTED: "Promoted: the new model is live",
    State.REFUSED: "Refused by the gate: the live model stays",
    State.STOPPED: "Stopped",
    State.FAILED: "Failed",
    State.FINISHED: "Finished",
}


def progress_line(progress: Progress) -> str:
    """One line: what is done, step, reward, held-out box IoU, time left, and the message."""
    facts = []
    if progress.total_steps:
        facts.append(f"step {progress.step} of {progress.total_steps}")
    if progress.reward is not None:
        facts.append(f"reward {progress.reward:.3f}")
    if progress.held_out_iou is not None:
        best = "" if progress.best_iou is None else f" (best {progress.best_iou:.3f})"
        facts.append(f"held-out box IoU {progress.held_out_iou:.3f}{best}")
    if progress.seconds_left is not None and not progress.state.is_end:
        facts.append(f"{duration(progress.seconds_left)} left")
    if progress.candidate is not None:
        facts.append(f"candidate {progress.candidate}")
    details = f" ({', '.join(facts)})" if facts else ""
    message = f" {progress.message}" if progress.message else ""
    return f"{_DOING[progress.state]}{details}.{message}"


def stats(progress: Progress | None) -> dict[str, Any]:
    """``train_stats`` of MONAI Label's ``/info``.

    Its viewers draw ``epoch`` of ``total_epochs`` as long as ``total_time`` is empty, and
    ``best_metric``, 0...1, as the accuracy; here they are optimiser steps and the held-out box IoU.
    """
    if progress is None:
        return {}
    ended = progress.state.is_end
    return {
        "epoch": progress.step,
        "total_epochs": progress.total_steps or 1,
        "best_metric": progress.best_iou or 0.0,
        "total_time": duration(progress.seconds_elapsed) if ended else "",
        **progress.to_dict(),
        "line": progress_line(progress),
    }


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, e.g. ``0:12:30``."""
    return str(timedelta(seconds=round(seconds)))


class NewsFilter:
    """Which lines are worth one in a log: a new kind of line, five percent more, or half a minute.

    Args:
        now: seconds of a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._told: tuple[str, int, str, float] | None = None

    def is_news(self, progress: Progress) -> bool:
        """Whether this is to be told; what is told counts for the next call."""
        line, now = progress_line(progress), self._now()
        kind = f"{progress.state} {re.sub('[0-9]+', '', progress.message or '')}"
        percent = _percent(progress)
        if self._told is not None and not progress.state.is_end:
            old_kind, old_percent, old_line, told_s = self._told
            is_further = abs(percent - old_percent) >= _LINE_EVERY_PERCENT
            is_due = line != old_line and now - told_s >= _LINE_EVERY_S
            if kind == old_kind and not is_further and not is_due:
                return False
        self._told = (kind, percent, line, now)
        return True


def _percent(progress: Progress) -> int:
    """Of what the message counts, else of the steps."""
    counted = _COUNTED.search(progress.message or "")
    done, total = map(int, counted.groups()) if counted else (progress.step, progress.total_steps)
    return 100 * done // total if total else 0
