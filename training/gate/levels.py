# SPDX-License-Identifier: Apache-2.0
"""How much error each attempt may spend, and how far few patients widen an interval."""

from __future__ import annotations

import math

from scipy.stats import norm, t

from medreasoner_training.gate.config import GateConfig
from medreasoner_training.gate.errors import GateConfigError

_BEYOND_THE_BOUND = 10
_MOST_RESAMPLES = 200_000


def attempt_level(config: GateConfig, attempt: int) -> float:
    """One-sided error that an attempt may make.

    The error of all attempts, (1 - ``confidence``) / 2, is spent as 1/(1 x 2), 1/(2 x 3),
    1/(3 x 4), ... of it. The first attempt has half, n attempts together n / (n + 1), and all that
    may ever follow never more than the whole, whatever the attempts have in common.

    Args:
        config: total error.
        attempt: number of the comparison with this live model, from 1.

    Raises:
        GateConfigError: there is no such attempt.
    """
    if attempt < 1:
        raise GateConfigError(f"attempt is {attempt}; expected 1 or more.")
    return (1.0 - config.confidence) / 2 / (attempt * (attempt + 1))


def widened_confidence(confidence: float, patients: int) -> float:
    """The confidence at which a bootstrap interval of few patients covers as much as it says.

    The bootstrap takes the spread of n patients for n / (n - 1) too small a variance, and the
    normal's tails for Student's: Hesterberg 2015, doi:10.1080/00031305.2015.1089789.

    What lies beyond all draws cannot be drawn: of few patients, and of attempts beyond the
    twentieth or so, the bound is the lowest of 200,000 draws.

    Args:
        confidence: two-sided, as wanted.
        patients: at least 2.
    """
    tail = float(norm.sf(standard_errors((1.0 - confidence) / 2, patients)))
    return 1.0 - 2 * max(tail, 1.0 / _MOST_RESAMPLES)


def standard_errors(tail: float, patients: int) -> float:
    """How many bootstrap standard errors the bound of a one-sided ``tail`` is away."""
    return float(t.isf(tail, patients - 1)) * math.sqrt(patients / (patients - 1))


def enough_resamples(config: GateConfig, confidence: float) -> int:
    """So many that some lie beyond the bound; 200,000 at most."""
    wanted = math.ceil(2 * _BEYOND_THE_BOUND / (1.0 - confidence))
    return max(config.resamples, min(wanted, _MOST_RESAMPLES))
