# SPDX-License-Identifier: Apache-2.0
"""From a measure to a reward in 0.1...1, and the penalty on it (arXiv 2508.08177, rewards).

The floor of 0.1 is published: a readable answer that misses the target still earns more than one
that cannot be read.
"""

from __future__ import annotations

import math

FLOOR = 0.1
STEEPNESS = 3.0
DIGITS = 4
_LOG_SCALE = (1 - FLOOR) / math.log(STEEPNESS + 1)


def log_smooth(overlap: float) -> float:
    """Rise from 0.1 at 0 to 1 at 1, steepest at the start: ``0.9 ln(3v + 1) / ln 4 + 0.1``.

    Raises:
        ValueError: ``overlap`` is at or below -1/3.
    """
    return _LOG_SCALE * math.log(STEEPNESS * overlap + 1) + FLOOR


def exp_smooth(deviation: float, centre: float) -> float:
    """Fall from 1 at 0 to 0.1 at 2 along a logistic curve, which is steepest at ``centre``."""
    top, bottom = _logistic(0.0, centre), _logistic(2.0, centre)
    share = (_logistic(deviation, centre) - bottom) / (top - bottom)
    return (1 - FLOOR) * share + FLOOR


def _logistic(value: float, centre: float) -> float:
    return 1 / (1 + math.exp(STEEPNESS * (value - centre)))


def penalise(reward: float, first: float, second: float) -> float:
    """Keep 70 % of a reward, and the rest by the mean of two validities in 0...1.

    Returns:
        ``clip(0.7 r + 0.3 r (a + b) / 2, 0, 1)``, rounded to four places as released.
    """
    kept = 0.7 * reward + 0.3 * reward * (first + second) / 2
    return round(min(max(kept, 0.0), 1.0), DIGITS)
