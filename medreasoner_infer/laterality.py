# SPDX-License-Identifier: Apache-2.0
"""Which of the patient's sides a mask lies on, and whether a name that tells a side may stand.

Sides come from LPS alone (PS3.3 C.7.6.2.1.1: x grows to the patient's left), never from the
picture: the patient's left is on the right of an axial display, and nowhere on a photograph. The
line between the sides is the middle of the body that is seen on the mask's sections, so that
nothing is said where the body is cut off by the field of view or only a limb is in it. A name that
the mask contradicts loses its side, with a warning; where nobody can know the sides of an image,
they stay unspecified.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.imaging import Volume
from medreasoner_infer.imaging.mapping import transform_points
from medreasoner_infer.imaging.orientation import nearest_voxel_axes
from medreasoner_infer.language import SIDES, Side, vocabulary
from medreasoner_infer.language.recognition import recognised

Verdict = Literal["agrees", "contradicts", "not_judged", "unspecified"]

LEAST_BODY_MM = 180.0
"""Width of what counts as a whole body; a limb alone has no left and right half."""
LEAST_RADIOGRAPH_MM = 300.0
"""Width from which a radiograph is taken to show both sides, about its middle."""
LEAST_OFFSET_MM, LEAST_OFFSET_SHARE = 10.0, 0.05
"""Of the body's width: nearer to its middle a mask is on neither side."""
LEAST_SHARE_OF_SIDE = 0.9
"""Of a mask's voxels must lie beyond the middle for it to be on that side."""

_MOST_SECTIONS = 9
_MOST_VOXELS = 200_000
_CT_BODY_HU = -300.0
_LONGEST_NAME_WORDS = 4
_LEAST_WHOLE_ROWS = 0.5
_SIDE_WORD = re.compile(r"\b(left|right)\b")
_SEPARATORS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Laterality:
    """A side that was told of a target, and the side on which its mask lies.

    Attributes:
        told: the patient's side by name.
        found: where the mask is; ``middle`` is neither, ``None`` where it cannot be told.
        offset_mm: from the body's middle to the mask's centroid along LPS x, positive to the
            patient's left; ``None`` where the middle is not known.
        verdict: ``unspecified`` where the image doesn't tell the patient's sides, ``not_judged``
            where it does but the mask lies in the middle or the body isn't seen whole.
    """

    told: Side
    found: Literal["left", "right", "middle"] | None
    offset_mm: float | None
    verdict: Verdict


def asked_side(question: str | None) -> Side | None:
    """The patient's side of the one target that a question asks for, in any of the languages.

    ``None`` where it asks for none, for both, or cannot be told without a model.
    """
    name = asked_target(question)
    return None if name is None else side_word(name)


def told_side(name: str | None) -> Side | None:
    """The patient's side that a target's name tells: ``Left kidney``, ``kidney_left``; as
    :func:`asked_side` where a question stands for the name.
    """
    if name is None:
        return None
    is_name = len(_plain(name).split()) <= _LONGEST_NAME_WORDS
    return asked_side(name) or (side_word(name) if is_name else None)


def without_side(name: str) -> str:
    """A target's name without the side that it tells, in English where that was told otherwise."""
    if told_side(name) is None:
        return name
    asked = asked_target(name)
    named = name if asked is None or side_word(asked) is None else asked
    return " ".join(_SIDE_WORD.sub(" ", _plain(named)).split())


def stated_name(name: str, found: Laterality | None) -> str:
    """What a target may be called: without a side that its mask contradicts."""
    is_wrong = found is not None and found.verdict == "contradicts"
    return without_side(name) if is_wrong else name


def judge_side(told: Side, mask_ijk: NDArray[Any], volume: Volume) -> Laterality | None:
    """Compare a side that is told with where the mask lies; ``None`` for an empty mask.

    Args:
        told: the patient's side that the target's name tells.
        mask_ijk: mask (I, J, K) on the grid of ``volume``, non-zero inside.
        volume: the image.
    """
    points_ijk = _inside(mask_ijk)
    if not len(points_ijk):
        return None
    if volume.is_picture:
        if _radiograph_axis(volume) is None:
            return Laterality(told, None, None, "unspecified")
        offsets_mm, width_mm = _radiograph_offsets_mm(points_ijk, volume)
    else:
        offsets_mm, width_mm = _body_offsets_mm(points_ijk, volume)
    if width_mm is None:
        return Laterality(told, None, None, "not_judged")
    return _judged(told, offsets_mm, width_mm)


def contradiction(found: Laterality | None, name: str) -> str | None:
    """A sentence for the reader where the mask lies on the other side; else ``None``.

    Args:
        found: as :func:`judge_side` gives it.
        name: of the target, or the question, as it is to be repeated.
    """
    if found is None or found.verdict != "contradicts" or found.offset_mm is None:
        return None
    return (
        f"“{name}” tells the patient's {found.told}, but the mask lies on the patient's "
        f"{found.found}, {abs(found.offset_mm):.0f} mm from the body's middle; no side is stated "
        "of it. Check which is meant."
    )


def asked_target(question: str | None) -> str | None:
    """The English name of the one target that a question asks for; ``None`` for any other."""
    if not question:
        return None
    found = recognised(question, frozenset(vocabulary().targets))
    return found.name if found is not None and found.read == "known" else None


def side_word(text: str) -> Side | None:
    """The side whose English word a text holds, without the other one's."""
    told = [side for side in SIDES if side in _plain(text).split()]
    return told[0] if len(told) == 1 else None


def _plain(text: str) -> str:
    return _SEPARATORS.sub(" ", text.lower())


def _inside(mask_ijk: NDArray[Any]) -> NDArray[np.int64]:
    """IJK (N, 3) of the mask's voxels, evenly thinned out where there are many."""
    order: Literal["F", "C"] = "F" if mask_ijk.flags.f_contiguous else "C"
    places = np.flatnonzero(mask_ijk.ravel(order))
    places = places[:: max(1, len(places) // _MOST_VOXELS)]
    return np.stack(np.unravel_index(places, mask_ijk.shape, order), axis=-1)


def _judged(told: Side, offsets_mm: NDArray[np.float64], width_mm: float) -> Laterality:
    offset = float(offsets_mm.mean())
    share = float(np.mean(np.sign(offsets_mm) == np.sign(offset)))
    is_clear = abs(offset) >= max(LEAST_OFFSET_MM, LEAST_OFFSET_SHARE * width_mm)
    if not is_clear or share < LEAST_SHARE_OF_SIDE:
        return Laterality(told, "middle", round(offset, 1), "not_judged")
    found: Side = "left" if offset > 0 else "right"
    verdict: Verdict = "agrees" if found == told else "contradicts"
    return Laterality(told, found, round(offset, 1), verdict)


def _body_offsets_mm(
    points_ijk: NDArray[np.int64], volume: Volume
) -> tuple[NDArray[np.float64], float | None]:
    """How far left of the body's middle each point lies, and the body's width if it is known."""
    (left_axis, _), (back_axis, _), (head_axis, _) = nearest_voxel_axes(volume.ijk_to_lps)
    heights = np.unique(points_ijk[:, head_axis])
    chosen = heights[np.linspace(0, len(heights) - 1, _MOST_SECTIONS).astype(int)]
    middles: list[NDArray[np.float64]] = []
    widths: list[NDArray[np.float64]] = []
    for index in np.unique(chosen):
        section = np.take(volume.array, index, axis=head_axis)
        if section.ndim == 3:
            section = section.mean(axis=-1)
        rows = section.T if left_axis < back_axis else section
        ends = _ends_of_rows(_body(rows, volume.modality))
        if ends is None:
            continue
        place = np.empty((len(ends.row), 3))
        place[:, head_axis], place[:, back_axis] = index, ends.row
        place[:, left_axis] = (ends.first + ends.last) / 2
        middles.append(transform_points(volume.ijk_to_lps, place)[:, 0])
        widths.append((ends.last - ends.first + 1) * volume.spacing_ijk_mm[left_axis])
    if not middles:
        return np.empty(0), None
    all_widths = np.concatenate(widths)
    width_mm = float(all_widths.max())
    if width_mm < LEAST_BODY_MM:
        return np.empty(0), None
    middle = _weighted_median(np.concatenate(middles), all_widths)
    return transform_points(volume.ijk_to_lps, points_ijk)[:, 0] - middle, width_mm


@dataclass(frozen=True, eq=False)
class _Ends:
    """First and last voxel of the body in each row that holds any; indices (N,)."""

    row: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


def _body(rows: NDArray[Any], modality: str) -> NDArray[np.bool_]:
    """What is no air around the patient, of a section (rows, columns)."""
    if modality == "CT":
        return np.asarray(rows > _CT_BODY_HU)
    low, high = np.percentile(rows, (1, 99))
    return np.asarray(rows > low + 0.1 * (high - low))


def _ends_of_rows(body: NDArray[np.bool_]) -> _Ends | None:
    """Of the rows that the field of view doesn't cut off; ``None`` where it cuts off most."""
    filled = np.flatnonzero(body.any(axis=1))
    columns = body.shape[1]
    first = body[filled].argmax(axis=1)
    last = columns - 1 - body[filled][:, ::-1].argmax(axis=1)
    whole = (first > 0) & (last < columns - 1)
    if not len(filled) or whole.mean() < _LEAST_WHOLE_ROWS:
        return None
    return _Ends(filled[whole], first[whole], last[whole])


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def _radiograph_axis(volume: Volume) -> tuple[int, int] | None:
    """The voxel axis along which the patient's left or right lies, and +1 towards the left."""
    for axis, letters in enumerate(volume.patient_orientation or ()):
        if letters[:1] in ("L", "R"):
            return axis, 1 if letters[0] == "L" else -1
    return None


def _radiograph_offsets_mm(
    points_ijk: NDArray[np.int64], volume: Volume
) -> tuple[NDArray[np.float64], float | None]:
    found = _radiograph_axis(volume)
    if found is None or not volume.spacing_known:
        return np.empty(0), None
    axis, sign = found
    spacing_mm, count = volume.spacing_ijk_mm[axis], volume.shape_ijk[axis]
    if count * spacing_mm < LEAST_RADIOGRAPH_MM:
        return np.empty(0), None
    offsets = sign * (points_ijk[:, axis] - (count - 1) / 2) * spacing_mm
    return offsets, count * spacing_mm
