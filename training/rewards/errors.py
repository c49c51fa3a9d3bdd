# SPDX-License-Identifier: Apache-2.0
"""Faults of the caller. Faults of a completion are no exceptions here but part of its reading."""

from __future__ import annotations

from medreasoner_infer.errors import InputError


class GroundTruthError(InputError):
    """A row's ground truth is neither a usable box with two points nor ``None``."""


class RewardConfigError(InputError):
    """A mode, term, weight or column that the rewards do not know."""


class CompletionTypeError(InputError, TypeError):
    """A completion is neither text nor a list of chat messages."""
