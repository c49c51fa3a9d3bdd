# SPDX-License-Identifier: Apache-2.0
"""What can be looked at while a run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medreasoner_training.finetune.settings.section import Count, Section, setting


@dataclass(frozen=True)
class WatchSettings(Section):
    """The page of a run: pictures of patients with what the model answers about them.

    It lies in the run's folder, for the account that trains only, and is off unless it is asked
    for.

    Attributes:
        enabled: write the page.
        every_steps: optimiser steps between two looks at the rollouts.
        groups: questions whose rollouts are shown at each look.
        questions: held-out questions that are shown at each evaluation (``run.eval_steps``).
        kept: looks that the page keeps: of rollouts the newest, of held-out questions the first and
            the newest.
    """

    key: ClassVar[str] = "watch"

    enabled: bool = False
    every_steps: Count = setting(10, least=1)
    groups: Count = setting(2, least=1, most=8)
    questions: Count = setting(4, least=0, most=16)
    kept: Count = setting(6, least=2, most=50)
