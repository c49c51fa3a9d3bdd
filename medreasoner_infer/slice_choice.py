# SPDX-License-Identifier: Apache-2.0
"""Which slice of the volume is read, and how that was decided."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.agreement import grounding_iou
from medreasoner_infer.follow_up import in_view
from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import (
    Plane,
    SliceMapping,
    Volume,
    Window,
    choose_window,
    default_plane,
    letterbox,
    slice_count,
    slice_image,
    slice_index_at,
    slice_mapping,
)
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.reasoners.image_encoding import prepare_image
from medreasoner_infer.request import AskRequest, Click, SegmentRequest, SliceSelection
from medreasoner_infer.result import CandidateSlice, SliceChoice
from medreasoner_infer.types import (
    EarlierTarget,
    Grounding,
    ReasonerAnswer,
    ReasonerRequest,
    SliceImage,
)

SEARCH_SLICES = 12
SEARCH_BATCH = 6
_MIN_CONTENT_FRACTION = 0.02
_DARK_LEVEL = 12


@dataclass(frozen=True)
class DisplayedSlice:
    """One slice as displayed, and where its pixels lie."""

    volume: Volume
    mapping: SliceMapping
    window: Window | None
    image: SliceImage

    @classmethod
    def of(
        cls, volume: Volume, plane: Plane, index: int, window: Window | None, **model: int
    ) -> DisplayedSlice:
        """Window one slice; ``model_size`` is the side of the reasoner's image in reasoner px.

        Raises:
            SliceOutOfRangeError: if the volume has no such slice.
        """
        mapping = slice_mapping(volume, plane, index, **model)
        return cls(volume, mapping, window, slice_image(volume, mapping, window))

    def request(
        self,
        query: str,
        encoding: str,
        *,
        samples: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
        about: EarlierTarget | None = None,
        modality: str = "",
    ) -> ReasonerRequest:
        """The question about this slice, greedy unless a temperature is given.

        ``modality`` is what somebody else tells of an image whose file tells none.
        """
        square = prepare_image(letterbox(self.image, self.mapping), encoding)
        key = f"{self.image.key}/{self.mapping.model_size}"
        seen = None if about is None else in_view(about, self.mapping)
        told = self.volume.modality_told or modality
        return ReasonerRequest(square, query, key, samples, temperature, seed, seen, told)


def plane_of(volume: Volume, selection: SliceSelection) -> Plane:
    """The plane asked for, or the acquisition's.

    Raises:
        InputError: if the name is no plane.
    """
    return default_plane(volume) if selection.plane is None else Plane.parse(selection.plane)


def require_selection(volume: Volume, selection: SliceSelection) -> None:
    """Refuse a plane, slice, position or window that the image has not, before a model is loaded.

    Raises:
        InputError: it has not.
    """
    plane = plane_of(volume, selection)
    if selection.window is not None:
        choose_window(volume, selection.window)
    chosen = fixed_choice(volume, plane, selection, ())
    if chosen is not None:
        slice_mapping(volume, plane, chosen[0])


Request = TypeVar("Request", AskRequest, SegmentRequest)


def on_one_slice(volume: Volume, request: Request) -> Request:
    """Keep the clicks that lie on the slice in question.

    Viewers send all clicks of a study. An index that holds a click inside the target counts;
    otherwise the last such click chooses the slice, as its position is what the reader saw. A
    request that names a position, or whose box or points are those of a slice, is left as it is.

    Args:
        volume: the image.
        request: with clicks on any of its slices, in IJK.
    """
    selection = request.selection
    positive = [click for click in request.clicks if click.positive]
    prompted = isinstance(request, SegmentRequest) and request.prompt is not None
    if not positive or selection.position_lps_mm is not None or prompted:
        return request
    axis = slice_mapping(volume, plane_of(volume, selection), 0).slice_axis
    index = selection.index
    if index is None or index not in (click.index_along(axis) for click in positive):
        index = positive[-1].index_along(axis)
    return replace(
        request,
        selection=replace(selection, index=None),
        clicks=tuple(click for click in request.clicks if click.index_along(axis) == index),
    )


def fixed_choice(
    volume: Volume, plane: Plane, selection: SliceSelection, clicks: Sequence[Click]
) -> tuple[int, SliceChoice] | None:
    """The slice that the request itself determines, or ``None`` if it must be searched for.

    Raises:
        SliceOutOfRangeError: if the index or the position lies outside the volume.
    """
    if selection.index is not None:
        return selection.index, SliceChoice("index", f"Slice {selection.index} was asked for.")
    if selection.position_lps_mm is not None:
        index = slice_index_at(volume, plane, selection.position_lps_mm)
        return index, SliceChoice("position", f"Slice {index} holds the position asked for.")
    if clicks:
        index = clicks[-1].index_along(slice_mapping(volume, plane, 0).slice_axis)
        return index, SliceChoice("click", f"Slice {index} was clicked on.")
    if slice_count(volume, plane) == 1:
        return 0, SliceChoice("single", "The image has one slice.")
    return None


def search_slice(
    volume: Volume,
    plane: Plane,
    window: Window | None,
    reasoner: Reasoner,
    query: str,
    hooks: Hooks,
    about: EarlierTarget | None = None,
) -> tuple[int, SliceChoice]:
    """Ask the question on evenly spaced slices and take the one where the target shows best.

    A slice scores the confidence of its answer, times the square root of the box's area relative
    to the largest box seen, so that a slice through the middle of the target wins over one at its
    ends, times the length of the run of slices that it belongs to, since a target that is really
    there shows at about the same place on the neighbouring slices as well (:func:`run_lengths`).
    When no slice shows the target, the middle one is read of those that say what the whole search
    says: that the question was not understood where most of the slices say so, else that the
    target is absent.
    """
    candidates = _candidate_slices(volume, plane, window, reasoner)
    answers: list[ReasonerAnswer] = []
    for start in range(0, len(candidates), SEARCH_BATCH):
        batch = candidates[start : start + SEARCH_BATCH]
        requests = [shown.request(query, reasoner.image_encoding, about=about) for shown in batch]
        answers += hooks.search(reasoner, requests)
        hooks.report("search", len(answers), len(candidates))
    scored = _score(candidates, answers)
    seen = [candidate for candidate in scored if candidate.present]
    if not seen:
        return _choice_without_target(scored)
    best = max(seen, key=lambda candidate: candidate.score)
    text = (
        f"Slice {best.index} was chosen: of {len(scored)} slices looked at, {len(seen)} show the "
        "target, and this one shows it best (confidence, size of the box, agreement of neighbours)."
    )
    return best.index, SliceChoice("search", text, scored)


def _choice_without_target(scored: tuple[CandidateSlice, ...]) -> tuple[int, SliceChoice]:
    puzzled = [candidate for candidate in scored if candidate.outcome == "not_understood"]
    not_understood = 2 * len(puzzled) > len(scored)
    said = puzzled if not_understood else [each for each in scored if each not in puzzled]
    index, count = said[len(said) // 2].index, len(scored)
    if not_understood:
        text = f"The question was not understood on {len(puzzled)} of {count} slices"
    else:
        text = f"The target was seen on none of {count} slices"
        if puzzled:
            text += f", on {len(puzzled)} of which the question was not understood"
    return index, SliceChoice("search", f"{text}; slice {index} is shown.", scored)


def _candidate_slices(
    volume: Volume, plane: Plane, window: Window | None, reasoner: Reasoner
) -> list[DisplayedSlice]:
    """Evenly spaced slices, without those that are all but black."""
    count = slice_count(volume, plane)
    number = min(SEARCH_SLICES, count)
    indices = np.unique(np.round((np.arange(number) + 0.5) * count / number - 0.5).astype(int))
    slices = [
        DisplayedSlice.of(volume, plane, int(index), window, model_size=reasoner.input_size)
        for index in indices
    ]
    filled = [candidate for candidate in slices if not is_all_but_black(candidate.image)]
    return filled or slices


def is_all_but_black(image: SliceImage) -> bool:
    """Whether a displayed slice shows next to nothing: at most 2 % of its values exceed 12."""
    return bool(np.mean(image.pixels > _DARK_LEVEL) <= _MIN_CONTENT_FRACTION)


def _score(
    candidates: Sequence[DisplayedSlice], answers: Sequence[ReasonerAnswer]
) -> tuple[CandidateSlice, ...]:
    areas = np.array([_box_area(answer) for answer in answers])
    runs = run_lengths([answer.grounding for answer in answers])
    confidences = np.array([_confidence(answer) for answer in answers])
    scores = confidences * np.sqrt(areas / (areas.max() or 1.0)) * runs / (runs.max() or 1.0)
    return tuple(
        CandidateSlice(
            candidate.mapping.index,
            answer.grounding.present,
            round(float(score), 4),
            outcome=answer.grounding.outcome,
        )
        for candidate, answer, score in zip(candidates, answers, scores, strict=True)
    )


def run_lengths(groundings: Sequence[Grounding]) -> NDArray[np.int_]:
    """How far each answer can be followed through the neighbouring answers, float (N,).

    An answer counts 1, its neighbour their boxes' IoU, the neighbour's neighbour the product of
    both IoUs, and so on both ways; an answer without a box counts 0.
    """
    links = [
        grounding_iou(*pair) if all(grounding.present for grounding in pair) else 0.0
        for pair in itertools.pairwise(groundings)
    ]
    return np.array(
        [
            1 + np.cumprod(links[at:]).sum() + np.cumprod(links[:at][::-1]).sum()
            if grounding.present
            else 0.0
            for at, grounding in enumerate(groundings)
        ]
    )


def _confidence(answer: ReasonerAnswer) -> float:
    return 1.0 if answer.confidence is None else answer.confidence


def _box_area(answer: ReasonerAnswer) -> float:
    if answer.grounding.bbox_xyxy_px is None:
        return 0.0
    x1, y1, x2, y2 = answer.grounding.bbox_xyxy_px
    return (x2 - x1) * (y2 - y1)
