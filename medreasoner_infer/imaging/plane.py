# SPDX-License-Identifier: Apache-2.0
"""Display planes: which voxel axis runs along x and y of the display, and which one is cut.

The display follows radiological convention however the file is stored. Oblique acquisitions are
shown on their own voxel grid, after the nearest permutation and flips of its axes: nothing is
resampled, so every displayed pixel is a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from medreasoner_infer.errors import ImageKindError, InputError
from medreasoner_infer.imaging.orientation import nearest_voxel_axes
from medreasoner_infer.imaging.volume import Volume


class Plane(str, Enum):
    """A display plane.

    AXIAL: patient right on the left of the display, anterior on top. CORONAL: patient right on
    the left, head on top. SAGITTAL: anterior on the left, head on top. ACQUIRED: as stored, I to
    the right and J downwards.
    """

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"
    ACQUIRED = "acquired"

    @classmethod
    def parse(cls, text: str) -> Plane:
        """The plane of that name, in any case.

        Raises:
            InputError: there is no such plane.
        """
        try:
            return cls(text.strip().lower())
        except ValueError:
            names = ", ".join(plane.value for plane in cls)
            raise InputError(f"The plane {text!r} is not known. Expected one of {names}.") from None


_L, _P, _S = range(3)
# Patient axis and sense along display x (rightwards) and y (downwards), and the axis that is cut.
_CONVENTION = {
    Plane.AXIAL: ((_L, +1), (_P, +1), _S),
    Plane.CORONAL: ((_L, +1), (_S, -1), _P),
    Plane.SAGITTAL: ((_P, +1), (_S, -1), _L),
}


@dataclass(frozen=True)
class DisplayAxes:
    """Voxel axes (0, 1, 2 for I, J, K) of the display.

    ``flip_x`` and ``flip_y`` say that the voxel index falls along display x (rightwards) and y
    (downwards).
    """

    x_axis: int
    y_axis: int
    cut_axis: int
    flip_x: bool = False
    flip_y: bool = False


def display_axes(volume: Volume, plane: Plane) -> DisplayAxes:
    """How a plane of a volume is laid out on the display.

    Raises:
        ImageKindError: an anatomical plane of an image without patient geometry.
    """
    if plane is Plane.ACQUIRED:
        return DisplayAxes(x_axis=0, y_axis=1, cut_axis=2)
    if volume.is_picture:
        raise ImageKindError(
            f"The {plane.value} plane was asked for, but this image has no patient geometry. "
            f"Ask for the plane '{Plane.ACQUIRED.value}'."
        )
    voxel_axes = nearest_voxel_axes(volume.ijk_to_lps)
    (x_patient, x_sense), (y_patient, y_sense), cut_patient = _CONVENTION[plane]
    x_axis, x_sign = voxel_axes[x_patient]
    y_axis, y_sign = voxel_axes[y_patient]
    cut_axis, _ = voxel_axes[cut_patient]
    return DisplayAxes(x_axis, y_axis, cut_axis, x_sign != x_sense, y_sign != y_sense)


def default_plane(volume: Volume) -> Plane:
    """The anatomical plane closest to the acquired one, i.e. the one that cuts the K axis.

    Images without patient geometry are shown as acquired.
    """
    if volume.is_picture:
        return Plane.ACQUIRED
    return next(plane for plane in _CONVENTION if display_axes(volume, plane).cut_axis == 2)
