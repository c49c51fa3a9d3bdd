# SPDX-License-Identifier: Apache-2.0
"""The image in memory: voxel values, where they lie in the patient, and what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.orientation import axis_codes
from medreasoner_infer.imaging.window import ValueRange, Window

# Of the axes as unit vectors; below it two of them run in the same direction.
_LEAST_DETERMINANT = 1e-3
# Far beyond any patient or scanner: a unit that was mistaken, or a damaged number.
_LARGEST_VOXEL_MM = 10_000.0
_FARTHEST_MM = 1_000_000.0


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image, or a 2-D picture with one slice.

    Attributes:
        array: modality values (HU for CT; rescale slope and intercept applied) in index order,
            shape (I, J, K), or uint8 of shape (I, J, K, 3) for RGB colour. Read-only.
        ijk_to_lps: (4, 4) float64 from homogeneous voxel index (ITK: integers are voxel centres)
            to LPS millimetres. It may be oblique and may hold shear (gantry-tilted CT).
        modality: DICOM code (CT, MR, US, DX, ...), "OT" where unknown.
        key: identity of the content for caches: equal keys mean equal voxels.
        source: file or folder that was loaded.
        stored_window: the first window of the DICOM file.
        inverted: the lowest value is to be shown white (MONOCHROME1).
        is_picture: the image has no patient geometry (PNG, JPEG, radiograph, ultrasound clip);
            only ``Plane.ACQUIRED`` can be shown, and LPS is then merely scaled IJK.
        spacing_known: in-plane spacing is in real millimetres.
        patient_orientation: DICOM Patient Orientation (0020,0020), the directions of rows and of
            columns, for radiographs without patient geometry.
        modality_guessed: the modality was inferred from the values, not read.
        padding: ranges of values that stand for no tissue (DICOM Pixel Padding Value).
        warnings: sentences for the person who uses the image, without patient identifiers.
    """

    array: NDArray[Any]
    ijk_to_lps: NDArray[np.float64]
    modality: str
    key: str
    source: Path
    stored_window: Window | None = None
    inverted: bool = False
    is_picture: bool = False
    spacing_known: bool = True
    patient_orientation: tuple[str, str] | None = None
    modality_guessed: bool = False
    padding: frozenset[ValueRange] = frozenset()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shape and geometry, and make both arrays read-only.

        Raises:
            UnreadableImageError: the image is empty, or its geometry cannot be inverted.
        """
        array = np.asarray(self.array).view()
        if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] != 3) or not array.size:
            raise UnreadableImageError(
                f"The image has shape {array.shape}; expected (I, J, K) for grey or (I, J, K, 3) "
                "for colour with at least one voxel."
            )
        affine = np.array(self.ijk_to_lps, dtype=np.float64)
        _require_invertible(affine)
        array.flags.writeable = False
        affine.flags.writeable = False
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "ijk_to_lps", affine)

    @property
    def shape_ijk(self) -> tuple[int, int, int]:
        """Number of voxels along I, J and K."""
        i, j, k = self.array.shape[:3]
        return i, j, k

    @property
    def spacing_ijk_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along I, J and K.

        With shear (gantry tilt) the distance along K is longer than that between slice planes.
        """
        i, j, k = np.linalg.norm(self.ijk_to_lps[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def orientation(self) -> str:
        """Letters of the patient directions towards which I, J and K grow, e.g. ``"LPS"``."""
        return axis_codes(self.ijk_to_lps)

    @property
    def modality_told(self) -> str:
        """The modality, where the file or its sender tells it; empty where it is a guess."""
        return "" if self.modality_guessed else self.modality

    @property
    def is_colour(self) -> bool:
        """Whether voxels are RGB."""
        return self.array.ndim == 4


def is_invertible(affine: NDArray[np.float64]) -> bool:
    """Whether an affine (4, 4) is finite and its voxel axes run in three directions."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (lengths == 0).any():
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) >= _LEAST_DETERMINANT)


def _require_invertible(ijk_to_lps: NDArray[np.float64]) -> None:
    if ijk_to_lps.shape != (4, 4) or not np.isfinite(ijk_to_lps).all():
        raise UnreadableImageError(
            "The image's geometry (its affine matrix) is not a finite 4 x 4 matrix, so voxels "
            "cannot be placed in the patient. Export the image again."
        )
    if not is_invertible(ijk_to_lps):
        lengths = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
        raise UnreadableImageError(
            f"The image's geometry is singular: voxel sizes {np.round(lengths, 4).tolist()} mm, "
            "or two voxel axes run in the same direction. Export the image again."
        )
    lengths, farthest = np.linalg.norm(ijk_to_lps[:3, :3], axis=0), np.abs(ijk_to_lps[:3, 3]).max()
    if lengths.max() > _LARGEST_VOXEL_MM or farthest > _FARTHEST_MM:
        raise UnreadableImageError(
            f"The image's voxels are {' x '.join(f'{length:.4g}' for length in lengths)} mm large "
            f"and begin up to {farthest:.4g} mm from the origin; expected at most "
            f"{_LARGEST_VOXEL_MM:g} mm and {_FARTHEST_MM:g} mm. A unit of length may be mistaken: "
            "correct it, or export the image again."
        )
