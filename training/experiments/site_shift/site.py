# SPDX-License-Identifier: Apache-2.0
"""What patients of a site look like on its scanner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medreasoner_training.embedded.phantom import (
    Label,
    Phase,
    SliceGrid,
    sample_torso,
)
from medreasoner_training.embedded.phantom.anatomy import PARTS
from medreasoner_training.embedded.phantom.scanner import sample_grid
from medreasoner_training.embedded.phantom.study import render_volume
from medreasoner_training.embedded.phantom.tissues import sample_hu_table
from medreasoner_training.embedded.phantom.torso import TorsoPhantom
from medreasoner_training.embedded.queries import known_targets
from medreasoner_training.embedded.reasoner.reasonings import FINDINGS

Range = tuple[float, float]
MIDDLE_HU = 40.0
"""Centre of the soft-tissue window, about which contrast is lost."""
Z_RANGE_MM = (150.0, 460.0)
SLICE_MM = 12.0
_PATIENT_SEED = 960_000


@dataclass(frozen=True)
class Site:
    """Ranges from which each patient's examination is drawn.

    Attributes:
        name: for folders and tables.
        body_scale: size of the body in the field of view, relative to the usual one.
        contrast: differences of CT numbers relative to the usual ones.
        noise_hu: standard deviation of the noise before smoothing.
        turn_deg: by how much patients lie turned to one side, clockwise as displayed.
    """

    name: str
    body_scale: Range = (1.0, 1.0)
    contrast: Range = (1.0, 1.0)
    noise_hu: Range = (4.0, 32.0)
    turn_deg: Range = (0.0, 0.0)


USUAL = Site("usual")
SHIFTED = Site("shifted", (0.5, 0.6), (0.45, 0.6), (8.0, 64.0), (15.0, 25.0))
SITES = {site.name: site for site in (USUAL, SHIFTED)}


@dataclass(frozen=True, eq=False)
class PatientVolume:
    """One CT examination of the trunk with the organs that a reader has marked.

    Attributes:
        hu: int16 (K, J, I); K rises to the head, J to the back, I to the patient's left.
        labels: uint8 of the same shape; values are those of :class:`Label`.
        names: of the organs by label value.
        ijk_to_lps: (4, 4), from voxel centres to LPS millimetres.
    """

    hu: np.ndarray
    labels: np.ndarray
    names: dict[int, str]
    ijk_to_lps: np.ndarray


def patient_volume(site: Site, seed: int, number: int) -> PatientVolume:
    """Draw a patient and the examination.

    Args:
        site: where.
        seed: of the experiment; equal arguments give equal patients.
        number: of the patient; the two sites share no patient.
    """
    rng = np.random.default_rng([_PATIENT_SEED, list(SITES).index(site.name), seed, number])
    torso = sample_torso(rng)
    heights = np.arange(*Z_RANGE_MM, SLICE_MM) * torso.height_scale
    grid = _grid(site, torso, float(heights[len(heights) // 2]), rng)
    contrast, noise_hu = rng.uniform(*site.contrast), rng.uniform(*site.noise_hu)
    table_hu = sample_hu_table(rng, Phase(rng.integers(0, 3)))
    table_hu = np.asarray(MIDDLE_HU + contrast * (table_hu - MIDDLE_HU), np.float32)
    blur_px = rng.uniform(0.3, 0.95)
    hu, found = render_volume(torso, heights, grid, table_hu, rng, noise_hu, blur_px)
    labels = marked(found)
    names = {int(v): known_targets()[Label(v)].name for v in np.unique(labels) if v}
    return PatientVolume(hu, labels, names, _ijk_to_lps(grid, heights))


def marked(labels: np.ndarray) -> np.ndarray:
    """The organs that readers of the site mark: no findings, and a lesion is part of its organ."""
    organs = labels.copy()
    for organ, parts in PARTS.items():
        organs[np.isin(labels, parts)] = organ
    readable = [label for label in known_targets() if label not in FINDINGS]
    organs[~np.isin(organs, readable)] = Label.BACKGROUND
    return organs


def _grid(site: Site, torso: TorsoPhantom, z_mm: float, rng: np.random.Generator) -> SliceGrid:
    """The usual field of view, widened until the body has the site's size in it, and turned."""
    usual = sample_grid(rng, torso, z_mm)
    spacing_mm = usual.spacing_mm / rng.uniform(*site.body_scale)
    turn_rad = usual.rotation_rad + np.deg2rad(rng.uniform(*site.turn_deg))
    return SliceGrid(usual.shape_hw, spacing_mm, usual.centre_xy_mm, turn_rad)


def _ijk_to_lps(grid: SliceGrid, heights_mm: np.ndarray) -> np.ndarray:
    """The body is turned in the scanner, not the scanner about the body: an axis-parallel grid."""
    rows, columns = grid.shape_hw
    affine = np.diag([grid.spacing_mm, grid.spacing_mm, float(np.diff(heights_mm).mean()), 1.0])
    affine[:2, 3] = -(columns - 1) / 2 * grid.spacing_mm, -(rows - 1) / 2 * grid.spacing_mm
    affine[2, 3] = heights_mm[0]
    return affine
