# SPDX-License-Identifier: Apache-2.0
"""``index.html``: a run while it learns, which needs neither a server nor the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from medreasoner_training import pages
from medreasoner_training.finetune.watch.drawn import (
    CUT_OFF,
    NO_VARIANCE,
    REWARD,
    draw_curves,
    points_of,
)
from medreasoner_training.finetune.watch.record import PAGE_FILE, WatchRecord

_TEMPLATE = "page.html"
_RELOADED_AFTER_S = 15


@dataclass(frozen=True)
class Shown:
    """The moment that a page shows.

    Attributes:
        run: its name.
        step: optimiser steps done.
        total_steps: of the run.
        goes_on: whether the page will be written again, so that it reloads itself.
    """

    run: str
    step: int
    total_steps: int
    goes_on: bool


def write_watch_page(
    folder: Path,
    shown: Shown,
    record: WatchRecord,
    history: Sequence[Mapping[str, Any]],
    first_step: int,
) -> None:
    """Write the page, whole or not at all, for its owner only.

    Args:
        folder: of the page.
        shown: the moment.
        record: pictures and answers.
        history: log of the stage's trainer.
        first_step: steps that earlier stages have done.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    names = (REWARD, NO_VARIANCE, CUT_OFF)
    curves = {name: points_of(history, name, first_step) for name in names}
    values = {
        "shown": shown,
        "record": record,
        "newest": {name: points[-1][1] if points else None for name, points in curves.items()},
        "curves_png": draw_curves(curves, record.box_ious),
        "reloaded_after_s": _RELOADED_AFTER_S,
        "written": datetime.now().astimezone().strftime("%H:%M:%S"),
    }
    pages.write_page(__package__, _TEMPLATE, folder / PAGE_FILE, values, private=True)
