# SPDX-License-Identifier: Apache-2.0
"""What the module needs of Slicer: the seam between plain Python and MRML."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from .geometry import Grid, Roi

# Told apart in all common kinds of colour blindness; as in the tab for OHIF.
_RGBS = (
    (221, 84, 84), (86, 180, 233), (240, 228, 66), (0, 158, 115), (204, 121, 167), (230, 159, 0),
)  # fmt: skip
_NAME_LENGTH = 40


@dataclass(frozen=True)
class Segment:
    """One target in the scene.

    Attributes:
        key: tells targets apart, also those of a scene that was saved earlier.
        name: at first; the reader may give another in the viewer.
        rgb: 0 to 1 each.
    """

    key: str
    name: str
    rgb: tuple[float, float, float]

    @classmethod
    def of(cls, key: str, question: str, number: int) -> Segment:
        """The segment of a question, the ``number``-th of its scene, counted from 0."""
        text = " ".join(question.split())
        name = text if len(text) <= _NAME_LENGTH else f"{text[: _NAME_LENGTH - 1]}…"
        red, green, blue = (value / 255 for value in _RGBS[number % len(_RGBS)])
        return cls(f"medreasoner-{key}", name, (red, green, blue))


@dataclass(frozen=True, eq=False)
class ShownVolume:
    """The volume that the reader has chosen.

    Attributes:
        key: tells volumes of the scene apart.
        grid: its voxels in the patient.
        image_id: of the server's studies, where it was loaded from there.
        series_uid: its DICOM series, where it was loaded from DICOM files.
    """

    key: str
    grid: Grid
    image_id: str | None = None
    series_uid: str | None = None


def _no_points() -> np.ndarray:
    return np.zeros((0, 3))


@dataclass(frozen=True, eq=False)
class Prompts:
    """A box, and points inside and outside the target, each of shape (N, 3); RAS millimetres.

    The lassos are closed curves that are drawn on a slice, around what is to be inside or outside.
    """

    box: Roi | None
    inside_ras_mm: np.ndarray
    outside_ras_mm: np.ndarray
    lasso_inside_ras_mm: np.ndarray = field(default_factory=_no_points)
    lasso_outside_ras_mm: np.ndarray = field(default_factory=_no_points)


class Viewer(Protocol):
    """Slicer, or a stand-in for it. Every method may raise :class:`~.errors.ViewerError`."""

    @property
    def volume(self) -> ShownVolume | None:
        """What is chosen, ``None`` while nothing is."""

    @property
    def slice_to_ras(self) -> np.ndarray:
        """The matrix (4, 4) of the chosen slice view."""

    def jump_to(self, position_ras_mm: np.ndarray) -> None:
        """Show the slice at a position in the chosen view."""

    def show_prompts(self, prompts: Prompts | None) -> None:
        """Show box and points as markups, ``None`` for none; lassos go."""

    def read_prompts(self) -> Prompts:
        """The markups as the reader has left them."""

    def has_segment(self, segment: Segment) -> bool:
        """Whether the chosen volume has the segment already."""

    def read_segment(self, segment: Segment) -> Segment:
        """A segment with the name and colour that the reader has given it."""

    def show_mask(self, segment: Segment, values_ijk: np.ndarray) -> None:
        """Show a mask (I, J, K) on the chosen volume's grid as a segment, which it replaces."""

    def read_mask(self, segment: Segment) -> np.ndarray:
        """A segment (I, J, K) on the chosen volume's grid, as the reader has left it.

        Raises:
            EmptySegmentError: it has no voxel.
        """

    def show_agreement(self, per_cent_ijk: np.ndarray | None) -> None:
        """Lay a map (I, J, K) over the chosen volume, whose grid it is on; ``None`` for none."""

    def save_volume(self, path: Path) -> None:
        """Write the chosen volume to a file."""

    def load_volume(self, path: Path, image_id: str, name: str) -> None:
        """Read a file, choose it, and remember which of the server's images it is."""
