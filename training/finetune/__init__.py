# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of a site's reasoner on what its readers approved, with TRL.

``python -m medreasoner_training.finetune RUN_DIR`` reads ``RUN_DIR/config.yaml``, trains a
candidate, compares it with the live reasoner on patients that it has not seen, and promotes it if
the gate agrees. Whoever started it reads :func:`read_progress` and may call :func:`request_stop`.
Nothing heavy is imported here; see docs/fine_tuning.md.
"""

from __future__ import annotations

from medreasoner_training.finetune.config import (
    CONFIG_FILE,
    FineTuneConfig,
    config_from_dict,
    read_config,
    shipped_configs,
)
from medreasoner_training.finetune.progress import (
    Progress,
    State,
    read_progress,
    request_stop,
)

__all__ = [
    "CONFIG_FILE",
    "FineTuneConfig",
    "Progress",
    "State",
    "config_from_dict",
    "read_config",
    "read_progress",
    "request_stop",
    "shipped_configs",
]
