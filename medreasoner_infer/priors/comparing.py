# SPDX-License-Identifier: Apache-2.0
"""The same question asked of a current and a prior examination, and what has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.change import Alignment, Change, PriorOf
from medreasoner_infer.imaging import Volume
from medreasoner_infer.imaging.mapping import transform_points
from medreasoner_infer.priors.alignment import align, corresponding, is_within
from medreasoner_infer.priors.changing import change_of
from medreasoner_infer.priors.examination import (
    Examination,
    require_comparable,
    require_same_patient,
)
from medreasoner_infer.priors.second_look import Segment, second_look
from medreasoner_infer.priors.sizes import target_sizes
from medreasoner_infer.request import AskRequest
from medreasoner_infer.result import InferenceResult

# What a boundary of voxels on two grids makes of a target that both show whole.
_LEFT_OUT_UNTOLD = 0.01

#: Answers a request about one of the two volumes, and gives it the form in which it is kept.
Keep = Callable[[InferenceResult], InferenceResult]
Ask = Callable[[Volume, AskRequest, Keep], InferenceResult]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Both answers; that about the prior examination says what has changed (``prior_of``)."""

    current: InferenceResult
    prior: InferenceResult
    told: PriorOf


def compare(
    ask: Ask,
    current: Examination,
    prior: Examination,
    request: AskRequest,
    *,
    segment: Segment | None = None,
    same_patient: bool = False,
    same_space: bool = False,
) -> Comparison:
    """Ask about the current examination, find the place in the prior one, and ask there.

    Both masks are carried through their volumes. Sizes are of the region that both examinations
    show, so that what one of them cuts off is no change.

    Args:
        ask: answers a question about a volume; its last argument is what it must apply to the
            result before it is kept.
        current: the later examination.
        prior: the earlier one.
        request: the question, and the slice of the current examination.
        segment: runs the segmenter for a second look at each, see :mod:`.second_look`; without,
            the models are taken for right.
        same_patient: the user's word where the images do not tell whose they are.
        same_space: the user's word that patient positions of both agree.

    Raises:
        PriorError: the two cannot be compared; the message says why.
        InputError, ServiceError, CancelledError: as of ``ask``.
    """
    require_same_patient(current.facts, prior.facts, stated=same_patient)
    warnings = require_comparable(current, prior)
    alignment = align(current, prior, same_space=same_space)
    alignment = replace(alignment, warnings=(*warnings, *alignment.warnings))
    request = replace(request, propagate=True)
    now = ask(current.volume, request, _unchanged)
    selection = corresponding(now, now.mask_ijk, current.volume, prior.volume, alignment)

    def told(before: InferenceResult) -> InferenceResult:
        """With what has changed."""
        made = PriorOf(
            current_inference_id=now.inference_id,
            alignment=alignment,
            change=measured_change(before, now, (prior.volume, current.volume), alignment, segment),
            current_date=current.facts.study_date,
            prior_date=prior.facts.study_date,
        )
        return replace(before, prior_of=made)

    at_place = replace(request, selection=selection, clicks=(), about=None)
    then = ask(prior.volume, at_place, told)
    assert then.prior_of is not None  # nosec B101 # for type checkers
    return Comparison(now, then, then.prior_of)


def measured_change(
    before: InferenceResult,
    after: InferenceResult,
    volumes: tuple[Volume, Volume],
    alignment: Alignment,
    segment: Segment | None = None,
) -> Change:
    """What has become of the target.

    Args:
        before: the answer about the prior examination.
        after: the answer about the current one.
        volumes: the prior and the current examination.
        alignment: from the current to the prior one.
        segment: runs the segmenter for a second look at each.
    """
    prior, current = volumes
    onwards = alignment.matrix
    back = np.linalg.inv(onwards)
    shown_before, lost_before = shown_by(before.mask_ijk, prior, current, back)
    shown_after, lost_after = shown_by(after.mask_ijk, current, prior, onwards)
    second_before = second_after = None
    if segment is not None:
        second_before = second_look(segment, before, prior, after, current, onwards)
        second_after = second_look(segment, after, current, before, prior, back)
    if second_before is not None:
        second_before, _ = shown_by(second_before, prior, current, back)
    if second_after is not None:
        second_after, _ = shown_by(second_after, current, prior, onwards)
    return change_of(
        target_sizes(before, shown_before, prior, second_before),
        target_sizes(after, shown_after, current, second_after),
        (before.outcome, after.outcome),
        _cut_cautions(max(lost_before, lost_after)),
    )


def shown_by(
    mask_ijk: NDArray[Any], volume: Volume, other: Volume, to_other: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], float]:
    """What of a mask (I, J, K) another examination shows too, and the share that it does not.

    Args:
        mask_ijk: on the grid of ``volume``.
        volume: where the mask lies.
        other: the other examination.
        to_other: (4, 4) from LPS mm of ``volume`` to LPS mm of ``other``.
    """
    places = np.argwhere(mask_ijk)
    kept = np.zeros(mask_ijk.shape, np.uint8)
    if not len(places):
        return kept, 0.0
    positions = transform_points(to_other @ volume.ijk_to_lps, places)
    within = is_within(other, positions)
    kept[tuple(places[within].T)] = 1
    return kept, float(1 - within.mean())


def _cut_cautions(share: float) -> tuple[str, ...]:
    if share <= _LEFT_OUT_UNTOLD:
        return ()
    return (
        f"One of the examinations does not show {share:.0%} of the target; sizes are of the part "
        "that both show.",
    )


def _unchanged(result: InferenceResult) -> InferenceResult:
    return result
