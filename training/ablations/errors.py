# SPDX-License-Identifier: Apache-2.0
"""Faults of an ablation."""

from __future__ import annotations

from medreasoner_infer.errors import InputError, ServiceError


class AblationConfigError(InputError):
    """The file of an ablation cannot be used, or is not the one that it was begun with."""


class ArmUnfinishedError(ServiceError):
    """The training of an arm failed or was stopped."""
