# SPDX-License-Identifier: Apache-2.0
"""From slice to slice by the patient's directions, never by the order in which a file has them.

*Next* is the order in which slices are read: from the head to the feet, from the front to the back,
from the patient's right to the left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.imaging import Plane, Volume, display_axes, slice_count
from medreasoner_infer.language.vocabulary import Where
from medreasoner_infer.talk.errors import NotResolved
from medreasoner_infer.talk.reference import Step

DIRECTIONS_LPS: dict[Where, tuple[int, int]] = {
    "left of": (0, 1), "right of": (0, -1), "behind": (1, 1), "in front of": (1, -1),
    "above": (2, 1), "below": (2, -1),
}  # fmt: skip
"""The axis of the patient (L, P, S) and the sense in which a direction runs."""
TOWARDS: dict[Where, str] = {
    "left of": "the patient's left", "right of": "the patient's right", "behind": "the back",
    "in front of": "the front", "above": "the head", "below": "the feet",
}  # fmt: skip
_NEXT: tuple[Where, Where, Where] = ("left of", "behind", "below")
_PREVIOUS: tuple[Where, Where, Where] = ("right of", "in front of", "above")


def vector_of(where: Where) -> NDArray[np.float64]:
    """A direction of the patient as a unit vector (3,), LPS."""
    axis, sense = DIRECTIONS_LPS[where]
    vector = np.zeros(3)
    vector[axis] = sense
    return vector


def stepped(volume: Volume, plane: Plane, index: int, step: Step) -> tuple[int, str]:
    """Another slice, and how one came there in words.

    Args:
        volume: the image.
        plane: whose slices are counted.
        index: where one begins, the voxel index along the axis that the plane cuts.
        step: how many, and which way.

    Raises:
        NotResolved: the slices do not run that way, or there is none so far.
    """
    sense, way = _sense(volume, plane, step)
    found = index + sense * step.count
    count = slice_count(volume, plane)
    slices = "one slice" if step.count == 1 else f"{step.count} slices"
    if not 0 <= found < count:
        left = count - 1 - index if sense > 0 else index
        raise NotResolved(f"There are only {left} slices further {way}; {slices} were asked for.")
    return found, f"{slices} {way}"


def cut_direction(volume: Volume, plane: Plane) -> tuple[int, int]:
    """Of the axis that a plane cuts: the patient's axis nearest to it, and the sense of it."""
    column = volume.ijk_to_lps[:3, display_axes(volume, plane).cut_axis]
    axis = int(np.abs(column).argmax())
    return axis, 1 if column[axis] > 0 else -1


def runs_across(volume: Volume, plane: Plane, where: Where) -> bool:
    """Whether a direction leads from slice to slice of a plane, and not along one."""
    axis, _ = cut_direction(volume, plane)
    return DIRECTIONS_LPS[where][0] == axis


def _sense(volume: Volume, plane: Plane, step: Step) -> tuple[int, str]:
    if volume.is_picture:
        if step.way not in ("next", "previous"):
            raise NotResolved(
                "This image does not tell how its slices lie in the patient; say next or previous."
            )
        return (1, "on") if step.way == "next" else (-1, "back")
    axis, sense = cut_direction(volume, plane)
    if step.way == "next":
        way = _NEXT[axis]
    elif step.way == "previous":
        way = _PREVIOUS[axis]
    else:
        way = step.way
    along, towards = DIRECTIONS_LPS[way]
    if along != axis:
        first, last = TOWARDS[_PREVIOUS[axis]], TOWARDS[_NEXT[axis]]
        raise NotResolved(
            f"The {plane.value} slices run from {first} to {last} and not towards {TOWARDS[way]}; "
            "say next or previous."
        )
    return towards * sense, f"towards {TOWARDS[way]}"
