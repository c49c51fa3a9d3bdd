# SPDX-License-Identifier: Apache-2.0
"""The paper's comparisons of trainings (its Tables 3 and 6) on any data set, from one file.

Arms are trained from the same start on the same rows, with other rewards or another method, and
answer the same questions; super-categories may be held out. :func:`run_ablation` carries it out and
goes on where it ended, :func:`table` sets the arms side by side.
"""

from __future__ import annotations

from medreasoner_training.ablations.config import AblationConfig, read_ablation
from medreasoner_training.ablations.errors import AblationConfigError
from medreasoner_training.ablations.running import Ablation, run_ablation
from medreasoner_training.ablations.table import ArmFigures, arm_figures, markdown, table_rows

__all__ = [
    "Ablation",
    "AblationConfig",
    "AblationConfigError",
    "ArmFigures",
    "arm_figures",
    "markdown",
    "read_ablation",
    "run_ablation",
    "table_rows",
]
