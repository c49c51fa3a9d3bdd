# SPDX-License-Identifier: Apache-2.0
"""From a phantom's section to a displayed grey image: positioning, noise, window, letterbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from medreasoner_infer.imaging.window import CT_PRESETS

from .anatomy import TOP_Z_MM, Label
from .section import Section, SliceGrid, render_section
from .tissues import Phase, Tissue, sample_hu_table, sample_mr_table
from .torso import TorsoPhantom, sample_torso

PLEURAL_BASE_Z_MM = (370.0, 470.0)
"""Heights at which an effusion shows, in the frame of anatomy.py."""
_MODES = ("soft tissue", "lung", "bone", "mr")
_MODE_SHARES = (0.8, 0.08, 0.04, 0.08)

Operation = Callable[[Section, np.random.Generator], tuple[Section, Label | None]]
"""Takes a target away from a section, and says which."""


@dataclass(frozen=True)
class PhantomImage:
    """A displayed, letterboxed slice.

    ``grey`` and ``labels`` are uint8 of shape (S, S); ``z_mm`` is the height in the body frame and
    ``mode`` the window or contrast that it is shown in. ``removed`` is a target that belongs there
    and was taken away.
    """

    grey: np.ndarray
    labels: np.ndarray
    mode: str
    z_mm: float
    removed: Label | None = None


def sample_grid(rng: np.random.Generator, torso: TorsoPhantom, z_mm: float) -> SliceGrid:
    """Draw a field of view: the body fills 60-98 % of it, sometimes it is cut by the edge."""
    front, side, back = torso.fat_mm
    width = 2 * (torso.half_width_mm(z_mm) + side)
    depth = 2 * torso.half_depth_mm(z_mm) + front + back
    fill = rng.uniform(0.98, 1.1) if rng.random() < 0.12 else 0.98 - 0.38 * rng.beta(1.3, 2.2)
    fov_x = width / fill
    fov_y = fov_x if rng.random() < 0.5 else min(fov_x, depth / rng.uniform(0.7, 1.0))
    columns = int(rng.integers(96, 176))
    spacing = fov_x / columns
    slack_x, slack_y = abs(fov_x - width) / 2, abs(fov_y - depth) / 2
    offset_x, offset_y = rng.uniform(-0.5, 0.5, 2) * (slack_x, slack_y)
    centre = offset_x, (back - front) / 2 + offset_y
    turn = rng.normal(0.0, np.deg2rad(3.0))
    return SliceGrid((max(32, round(fov_y / spacing)), columns), spacing, centre, turn)


def add_table(
    section: Section, grid: SliceGrid, y_mm: float, curvature: float, thickness_mm: float
) -> Section:
    """Draw the patient table, a curved line, into the air below the body."""
    x, y = grid.body_xy_mm()
    height = y_mm - curvature * (x / 150.0) ** 2
    line = np.abs(y - height) < max(thickness_mm / 2, 0.7 * grid.spacing_mm)
    tissue = section.tissue.copy()
    tissue[line & (section.tissue == Tissue.AIR)] = Tissue.TABLE
    return Section(tissue, section.labels)


def add_arms(
    section: Section, grid: SliceGrid, x_mm: float, y_mm: float, radius_mm: float
) -> Section:
    """Draw arms that lie beside the trunk, centred at (+-x, y), into the air."""
    x, y = grid.body_xy_mm()
    distance = np.hypot((np.abs(x) - x_mm) / radius_mm, (y - y_mm) / (1.1 * radius_mm))
    air = section.tissue == Tissue.AIR
    tissue = section.tissue.copy()
    layers = (
        (1.0, Tissue.SKIN),
        (0.95, Tissue.FAT),
        (0.78, Tissue.MUSCLE),
        (0.28, Tissue.CORTICAL_BONE),
        (0.16, Tissue.MARROW),
    )
    for limit, layer in layers:
        tissue[air & (distance < limit)] = layer
    return Section(tissue, section.labels)


def _add_surroundings(
    section: Section, grid: SliceGrid, torso: TorsoPhantom, z_mm: float, rng: np.random.Generator
) -> Section:
    _, side, back = torso.fat_mm
    if rng.random() < 0.15:
        radius = rng.uniform(34.0, 52.0)
        x_mm = torso.half_width_mm(z_mm) + side + radius + rng.uniform(2.0, 15.0)
        section = add_arms(section, grid, x_mm, rng.uniform(-20.0, 60.0), radius)
    if rng.random() < 0.6:
        y_mm = torso.half_depth_mm(z_mm) + back + rng.uniform(2.0, 25.0)
        bend = rng.uniform(0.0, 35.0)
        for _ in range(int(rng.integers(1, 3))):
            section = add_table(section, grid, y_mm, bend, rng.uniform(1.0, 7.0))
            y_mm += rng.uniform(12.0, 30.0)
    return section


def ct_image(
    section: Section,
    hu_table: np.ndarray,
    rng: np.random.Generator,
    noise_hu: float,
    blur_px: float,
) -> np.ndarray:
    """Reconstructed CT section with partial volume and noise: float32 of shape (H, W), in HU."""
    hu = ndimage.gaussian_filter(hu_table[section.tissue], blur_px)
    noise = rng.standard_normal(hu.shape, np.float32)
    if rng.random() < 0.5:
        noise = ndimage.gaussian_filter(noise, 0.6) * 2.0
    return hu + noise * np.float32(noise_hu)


def apply_window(hu: np.ndarray, centre_hu: float, width_hu: float) -> np.ndarray:
    """Linear window to uint8, as displayed."""
    grey = (hu - (centre_hu - width_hu / 2)) / width_hu
    return (np.clip(grey, 0.0, 1.0) * 255).astype(np.uint8)


def _mr_image(section: Section, rng: np.random.Generator, blur_px: float) -> np.ndarray:
    signal = ndimage.gaussian_filter(sample_mr_table(rng)[section.tissue], blur_px)
    rows, cols = signal.shape
    y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, cols)[None]
    a, b, c, d = rng.uniform(-0.25, 0.25, 4)
    signal = signal * (1 + a * x + b * y + c * x * y + d * x * x)
    signal = signal + rng.normal(0.0, rng.uniform(0.01, 0.06), signal.shape)
    return (np.clip(signal * rng.uniform(0.85, 1.2), 0, 1) * 255).astype(np.uint8)


def _display(section: Section, mode: str, rng: np.random.Generator) -> np.ndarray:
    blur = rng.uniform(0.3, 0.95)
    if mode == "mr":
        return _mr_image(section, rng, blur)
    table = sample_hu_table(rng, Phase(rng.integers(0, 3)))
    hu = ct_image(section, table, rng, rng.uniform(4.0, 32.0), blur)
    preset = CT_PRESETS[mode.replace(" ", "_")]
    centre = preset.center + rng.normal(0.0, 0.05 * preset.width)
    return apply_window(hu, centre, preset.width * rng.uniform(0.75, 1.25))


def letterbox(
    grey: np.ndarray, labels: np.ndarray, size_px: int, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Fit an isotropic image into a black square, anti-aliased; labels take the nearest value.

    The picture is centred; with ``rng`` it sometimes lies elsewhere along the padded axis.
    """
    rows, cols = grey.shape
    scale = size_px / max(rows, cols)
    height, width = max(1, round(rows * scale)), max(1, round(cols * scale))
    top, left = (size_px - height) // 2, (size_px - width) // 2
    resample = Image.Resampling.BICUBIC
    if rng is not None:
        resample = Image.Resampling(int(rng.choice([1, 2, 3])))
        if rng.random() < 0.2:
            top, left = (
                int(rng.integers(0, size_px - height + 1)),
                int(rng.integers(0, size_px - width + 1)),
            )
    box = np.s_[top : top + height, left : left + width]
    square, square_labels = np.zeros((2, size_px, size_px), np.uint8)
    square[box] = Image.fromarray(grey).resize((width, height), resample)
    square_labels[box] = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
    return square, square_labels


def _sample_height_mm(rng: np.random.Generator, torso: TorsoPhantom, at_finding: float) -> float:
    """Height of a slice (body frame), mostly in the upper abdomen."""
    if at_finding and torso.lesions and rng.random() < at_finding:
        label, ball = torso.lesions[int(rng.integers(len(torso.lesions)))]
        if label == Label.PLEURAL_EFFUSION:
            low, high = PLEURAL_BASE_Z_MM
        else:
            low, high = (ball.centre[2] + 0.6 * side * ball.radii[2] for side in (-1, 1))
    else:
        low, high = (195.0, 400.0) if rng.random() < 0.6 else (15.0, TOP_Z_MM)
    return rng.uniform(low, high) * torso.height_scale


def sample_image(
    rng: np.random.Generator,
    size_px: int = 128,
    at_finding: float = 0.0,
    operated: Operation | None = None,
) -> PhantomImage:
    """Draw a torso, a height, a scanner and a window, and show the slice on a square.

    ``at_finding`` is the share of the torsos with findings that are cut where one of them lies;
    otherwise the height does not depend on them, and slices that show one are rare. ``operated``
    takes a target away from the section.
    """
    torso = sample_torso(rng)
    z_mm = _sample_height_mm(rng, torso, at_finding)
    grid = sample_grid(rng, torso, z_mm)
    section = render_section(torso, z_mm, grid)
    section = _add_surroundings(section, grid, torso, z_mm, rng)
    section, removed = operated(section, rng) if operated else (section, None)
    mode = str(rng.choice(_MODES, p=_MODE_SHARES))
    grey, labels = letterbox(_display(section, mode, rng), section.labels, size_px, rng)
    return PhantomImage(grey, labels, mode, z_mm, removed)
