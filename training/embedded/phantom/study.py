# SPDX-License-Identifier: Apache-2.0
"""A whole generated CT examination of a torso phantom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .anatomy import TOP_Z_MM, Label
from .scanner import add_table, ct_image
from .section import SliceGrid, render_section
from .tissues import Phase, sample_hu_table
from .torso import TorsoPhantom, sample_torso

HU_RANGE = (-1024, 3071)
"""Range of a 12-bit CT with the usual rescale intercept."""


@dataclass(frozen=True)
class PhantomStudy:
    """A CT volume with its labels.

    Attributes:
        hu: int16 of shape (K, J, I) in Hounsfield units; K rises to the head, J to the back, I to
            the patient's left.
        labels: uint8 of the same shape, see ``label_names``.
        label_names: name of each label value that occurs in ``labels``.
        spacing_mm: distance of voxel centres along I, J and K.
        origin_lps_mm: LPS position of the centre of voxel (0, 0, 0).
        direction: (3, 3), columns are the LPS directions of I, J and K.
        phase: contrast phase.
    """

    hu: np.ndarray
    labels: np.ndarray
    label_names: dict[int, str]
    spacing_mm: tuple[float, float, float]
    origin_lps_mm: tuple[float, float, float]
    direction: np.ndarray
    phase: Phase

    @property
    def ijk_to_lps(self) -> np.ndarray:
        """(4, 4) affine from voxel centres (I, J, K) to LPS millimetres."""
        affine = np.eye(4)
        affine[:3, :3] = self.direction * np.asarray(self.spacing_mm)
        affine[:3, 3] = self.origin_lps_mm
        return affine


def torso_ct(
    seed: int,
    spacing_mm: tuple[float, float, float] = (1.6, 1.6, 5.0),
    matrix: int = 256,
    z_range_mm: tuple[float, float] = (20.0, TOP_Z_MM - 10.0),
    noise_hu: float = 12.0,
    phase: Phase = Phase.VENOUS,
) -> PhantomStudy:
    """Generate a CT from pelvis to chest.

    Args:
        seed: equal seeds give equal studies.
        spacing_mm: pixel size along I and J, which must be equal, and distance of the slices.
        matrix: rows and columns.
        z_range_mm: lowest and highest slice in the body frame of the average anatomy.
        noise_hu: standard deviation of the noise before smoothing.
        phase: contrast phase.

    Raises:
        ValueError: the pixels are not square, or a spacing is not positive.
    """
    if spacing_mm[0] != spacing_mm[1] or min(spacing_mm) <= 0:
        raise ValueError(
            f"spacing_mm is {spacing_mm}; expected three positive numbers, the first two equal."
        )
    rng = np.random.default_rng(seed)
    torso = sample_torso(rng, vary=0.8)
    table = sample_hu_table(rng, phase)
    front, _, back = torso.fat_mm
    grid = SliceGrid((matrix, matrix), spacing_mm[0], (0.0, (back - front) / 2))
    low, high = (z * torso.height_scale for z in z_range_mm)
    heights = np.arange(low, high, spacing_mm[2])
    hu, labels = render_volume(torso, heights, grid, table, rng, noise_hu, blur_px=0.6)
    x, y = grid.body_xy_mm()
    return PhantomStudy(
        hu,
        labels,
        {int(v): Label(v).name.lower().replace("_", " ") for v in np.unique(labels) if v},
        spacing_mm,
        (float(x.min()), float(y.min()), float(heights[0])),
        np.eye(3),
        phase,
    )


def render_volume(
    torso: TorsoPhantom,
    heights_mm: np.ndarray,
    grid: SliceGrid,
    table_hu: np.ndarray,
    rng: np.random.Generator,
    noise_hu: float,
    blur_px: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Scan a torso that lies on a patient table.

    Args:
        torso: the patient.
        heights_mm: (K,) of the slices, in the body frame.
        grid: of every slice, H rows of W pixels.
        table_hu: CT number of each tissue, see :func:`sample_hu_table`.
        rng: of the noise.
        noise_hu: standard deviation of the noise before smoothing.
        blur_px: standard deviation of the scanner's point spread.

    Returns:
        CT numbers, int16 (K, H, W), and labels, uint8 (K, H, W).
    """
    table_y_mm = max(torso.half_depth_mm(z) for z in heights_mm) + torso.fat_mm[2] + 6.0
    hu = np.empty((len(heights_mm), *grid.shape_hw), np.int16)
    labels = np.empty(hu.shape, np.uint8)
    for k, z_mm in enumerate(heights_mm):
        section = render_section(torso, float(z_mm), grid)
        labels[k] = section.labels
        on_table = add_table(section, grid, table_y_mm, 12.0, 4.0)
        hu[k] = np.clip(np.rint(ct_image(on_table, table_hu, rng, noise_hu, blur_px)), *HU_RANGE)
    return hu, labels
