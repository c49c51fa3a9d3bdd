# SPDX-License-Identifier: Apache-2.0
"""Overlap of masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Dice coefficient of two bool masks of one shape, 0...1.

    NaN where both are empty: nothing was there to overlap. Whoever scores such a pair says what an
    absent target that was not found is worth.
    """
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / total if total else float("nan")
