# SPDX-License-Identifier: Apache-2.0
"""Which way the voxel axes point in the patient, and the letters that say so."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

# Negative and positive end of the L, P and S axes.
_AXIS_LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))
# At the display's edges head and foot are written H and F (PS3.3 C.7.6.1.1.1).
_EDGE_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "F": "H", "H": "F"}
# Below this direction cosine (17 degrees) an oblique direction gets no further letter.
_SECOND_LETTER_COSINE = 0.3


def nearest_voxel_axes(ijk_to_lps: NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
    """The voxel axis that runs closest to each of the patient axes L, P and S.

    Every voxel axis is used once: of the six assignments the one with the largest sum of direction
    cosines is taken (the first one at a tie, as for a rotation by exactly 45 degrees).

    Args:
        ijk_to_lps: (4, 4) affine, may be oblique and sheared.

    Returns:
        For L, P and S: (voxel axis 0...2, +1 or -1), -1 where the index grows towards R, A or I.
    """
    directions = ijk_to_lps[:3, :3] / np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    patient_axes = range(3)

    def closeness(voxel_axes: tuple[int, ...]) -> float:
        cosines = (abs(directions[axis, voxel_axes[axis]]) for axis in patient_axes)
        return float(round(sum(cosines), 6))

    best = max(permutations(range(3)), key=closeness)
    return tuple((best[axis], 1 if directions[axis, best[axis]] >= 0 else -1) for axis in range(3))


def axis_codes(ijk_to_lps: NDArray[np.float64]) -> str:
    """Three letters of R/L, A/P, I/S: the directions towards which I, J and K grow."""
    codes = ["", "", ""]
    for patient_axis, (voxel_axis, sign) in enumerate(nearest_voxel_axes(ijk_to_lps)):
        codes[voxel_axis] = _AXIS_LETTERS[patient_axis][sign > 0]
    return "".join(codes)


def direction_letters(direction_lps: NDArray[np.float64]) -> str:
    """Letters of a direction in the patient, the dominant one first, e.g. ``"L"`` or ``"LA"``."""
    unit = np.asarray(direction_lps, dtype=np.float64)
    unit = unit / np.linalg.norm(unit)
    order = np.argsort(-np.abs(unit), kind="stable")
    shown = [axis for axis in order if abs(unit[axis]) >= _SECOND_LETTER_COSINE]
    return "".join(_EDGE_LETTERS[axis][unit[axis] > 0] for axis in shown)


def opposite_letters(letters: str) -> str:
    """The letters of the opposite direction: ``"LA"`` becomes ``"RP"``."""
    return "".join(_OPPOSITE.get(letter, letter) for letter in letters)
