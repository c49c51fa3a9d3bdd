# SPDX-License-Identifier: Apache-2.0
"""Whether a run that was begun writes a page of what it shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medreasoner_infer.atomic import write_durably
from medreasoner_training.finetune import CONFIG_FILE, read_config


def watch_run(run: Path) -> None:
    """Have a run that was begun write its page from its next start on; it stays the same run.

    Raises:
        FineTuneConfigError: its configuration cannot be read.
    """
    config = read_config(run / CONFIG_FILE)
    if not config.watch.enabled:
        watched = replace(config, watch=replace(config.watch, enabled=True))
        write_durably(run / CONFIG_FILE, watched.to_yaml())
