# SPDX-License-Identifier: Apache-2.0
"""Which of several neighbours is meant: each is asked for, and their boxes are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import Plane, SliceMapping, Volume, Window, slice_count
from medreasoner_infer.language.follow_up_words import Place
from medreasoner_infer.language.vocabulary import Where
from medreasoner_infer.prompting import grounding_in_slice_px
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.slice_choice import SEARCH_BATCH, DisplayedSlice
from medreasoner_infer.talk.errors import NotResolved
from medreasoner_infer.talk.names import AROUND, LATERAL
from medreasoner_infer.talk.slices import DIRECTIONS_LPS, cut_direction, runs_across, vector_of
from medreasoner_infer.types import XYXY

MOST_ASKED_FOR = 32
# Of the way between two middles: how much of it must run in the direction that is meant.
LEAST_COSINE = 0.5
BEYOND_MM = (5.0, 15.0, 30.0, 50.0)
"""How far beyond the last slice of a mask one looks for what lies above or below it."""


@dataclass(frozen=True)
class Look:
    """What is looked at: the image, its window, and the slice and box of what was found."""

    volume: Volume
    plane: Plane
    window: Window | None
    index: int
    box_px: XYXY


@dataclass(frozen=True)
class Seen:
    """A neighbour that was seen, and the index of the slice."""

    name: str
    index: int


def question_for(name: str) -> str:
    """How a reasoner is asked for a target by its English name."""
    return f"Where is the {name}?"


def nearest_neighbour(
    look: Look,
    place: Place,
    names: Sequence[str],
    reasoner: Reasoner,
    hooks: Hooks,
    mask_ijk: NDArray[np.uint8] | None,
) -> Seen | None:
    """The nearest of ``names`` that the reasoner sees at ``place`` of what was found.

    Along the slice the edges of boxes are compared, of those whose middle lies at most 60 degrees
    beside the direction. Across the slices one looks ever farther beyond the mask, and the box that
    covers most of the earlier one counts.

    Raises:
        NotResolved: more targets would have to be asked for than is worth while.
    """
    if len(names) > MOST_ASKED_FOR:
        raise NotResolved(f"{len(names)} structures may be meant; name the one that you mean.")
    if place != "beside" and runs_across(look.volume, look.plane, place):
        return _across(look, place, names, reasoner, hooks, mask_ijk)
    boxes = _boxes(look, look.index, names, reasoner, hooks)
    ways: tuple[Where, ...] = AROUND if place == "beside" else (place,)
    for told in (LATERAL, ways) if place == "beside" else (ways,):
        ranked = [
            (gap, name)
            for name, (box, mapping) in boxes.items()
            if (gap := _gap_mm(look.box_px, box, told, mapping)) is not None
        ]
        if ranked:
            return Seen(min(ranked)[1], look.index)
    return None


def _across(
    look: Look,
    where: Where,
    names: Sequence[str],
    reasoner: Reasoner,
    hooks: Hooks,
    mask_ijk: NDArray[np.uint8] | None,
) -> Seen | None:
    for index in _slices_beyond(look, where, mask_ijk):
        boxes = _boxes(look, index, names, reasoner, hooks)
        ranked = [(_covered(look.box_px, box), name) for name, (box, _) in boxes.items()]
        share, name = max(ranked, default=(0.0, ""))
        if share > 0:
            return Seen(name, index)
    return None


def _slices_beyond(look: Look, where: Where, mask_ijk: NDArray[np.uint8] | None) -> list[int]:
    mapping = DisplayedSlice.of(look.volume, look.plane, look.index, look.window).mapping
    _, sense = cut_direction(look.volume, look.plane)
    sense *= DIRECTIONS_LPS[where][1]
    last = look.index
    if mask_ijk is not None and mask_ijk.any():
        others = tuple(axis for axis in range(3) if axis != mapping.slice_axis)
        (filled,) = np.nonzero(mask_ijk.any(axis=others))
        last = int(filled[-1] if sense > 0 else filled[0])
    spacing_mm = look.volume.spacing_ijk_mm[mapping.slice_axis]
    steps = [max(1, round(distance / spacing_mm)) for distance in BEYOND_MM]
    found = dict.fromkeys(last + sense * step for step in steps)
    return [index for index in found if 0 <= index < slice_count(look.volume, look.plane)]


def _boxes(
    look: Look, index: int, names: Sequence[str], reasoner: Reasoner, hooks: Hooks
) -> dict[str, tuple[XYXY, SliceMapping]]:
    """Where the reasoner sees each on a slice, in slice px."""
    size = reasoner.input_size
    shown = DisplayedSlice.of(look.volume, look.plane, index, look.window, model_size=size)
    found: dict[str, tuple[XYXY, SliceMapping]] = {}
    for start in range(0, len(names), SEARCH_BATCH):
        batch = names[start : start + SEARCH_BATCH]
        requests = [shown.request(question_for(n), reasoner.image_encoding) for n in batch]
        answers = hooks.search(reasoner, requests)
        for name, answer in zip(batch, answers, strict=True):
            box = grounding_in_slice_px(answer.grounding, shown.mapping).bbox_xyxy_px
            if box is not None:
                found[name] = box, shown.mapping
    return found


def _gap_mm(one: XYXY, other: XYXY, ways: Sequence[Where], mapping: SliceMapping) -> float | None:
    """How far two boxes are apart; ``None`` where the other lies in none of the directions."""
    size = np.array(mapping.spacing_xy_mm)
    first, second = (np.reshape(box, (2, 2)) * size for box in (one, other))
    way = second.mean(axis=0) - first.mean(axis=0)
    length = float(np.linalg.norm(way))
    if length == 0 or max(way @ _on_slice(where, mapping) for where in ways) < (
        LEAST_COSINE * length
    ):
        return None
    apart = np.maximum(0.0, np.maximum(second[0] - first[1], first[0] - second[1]))
    # Of boxes that overlap the one with the nearer middle.
    return float(np.linalg.norm(apart)) + 1e-3 * length


def _on_slice(where: Where, mapping: SliceMapping) -> NDArray[np.float64]:
    """A direction of the patient along x and y of the slice, unit length where it lies in it."""
    origin, *ends = mapping.slice_px_to_lps([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
    along = np.array(ends) - origin
    return np.asarray((along / np.linalg.norm(along, axis=1, keepdims=True)) @ vector_of(where))


def _covered(one: XYXY, other: XYXY) -> float:
    """Share of the first box that the second covers."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((one[2] - one[0]) * (one[3] - one[1]))
