# SPDX-License-Identifier: Apache-2.0
"""Examinations of a patient who lay down again: voxels moved by a known rigid transform."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from medreasoner_infer.imaging import Volume


def turn(degrees_xyz: tuple[float, float, float]) -> np.ndarray:
    """(3, 3): about x, then y, then z, each by its textbook matrix."""
    x, y, z = np.radians(degrees_xyz)
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_y) @ np.array(about_x)


def motion(degrees_xyz, shift_mm, about_lps_mm) -> np.ndarray:
    """(4, 4): turned about a position of the patient, then shifted; LPS mm to LPS mm."""
    moved = np.eye(4)
    moved[:3, :3] = turn(degrees_xyz)
    moved[:3, 3] = np.asarray(about_lps_mm) + shift_mm - moved[:3, :3] @ np.asarray(about_lps_mm)
    return moved


def middle_lps_mm(volume: Volume) -> np.ndarray:
    return (volume.ijk_to_lps @ [*(np.array(volume.shape_ijk) - 1) / 2, 1])[:3]


def examined_again(
    array_ijk: np.ndarray,
    affine: np.ndarray,
    moved: np.ndarray,
    grid: np.ndarray,
    shape: tuple[int, int, int],
    *,
    order: int = 1,
    outside: float = -1024,
) -> np.ndarray:
    """The patient of ``array_ijk`` after ``moved``, scanned on another grid."""
    to_source = np.linalg.inv(affine) @ np.linalg.inv(moved) @ grid
    return ndimage.affine_transform(
        array_ijk, to_source[:3, :3], to_source[:3, 3], shape, order=order, cval=outside
    )


def volume_of(array_ijk: np.ndarray, affine: np.ndarray, key: str = "") -> Volume:
    return Volume(array_ijk, affine, "CT", key or str(array_ijk.sum()), Path("moved.nii.gz"))
