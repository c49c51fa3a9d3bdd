# SPDX-License-Identifier: Apache-2.0
"""One inference in the order in which a reader wants to see it.

The mask on the slice is shown before the volume is gone through, so the segmenter is asked twice
with the same prompts; the image's embedding is kept between, and the result is one inference.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from medreasoner_infer.hooks import OnText, Progress
from medreasoner_infer.imaging import Plane, Volume, slice_count, slice_index_at, slice_mapping
from medreasoner_infer.request import AskRequest, SegmentRequest, SliceSelection
from medreasoner_infer.result import InferenceResult, PromptRecord, SliceChoice
from medreasoner_infer.slice_choice import fixed_choice, plane_of
from medreasoner_infer.types import XYXY, XYZ, SlicePrompt
from monailabel_app.inference.params import InferParams
from monailabel_app.inference.service import Cancelled, ask_request


class Follower(Protocol):
    """Is told each step, in the worker's thread."""

    def slice_chosen(self, plane: Plane, index: int, choice: SliceChoice) -> None:
        """The slice is known before the model is asked."""

    def text(self, piece: str) -> None:
        """The reasoner has written ``piece``."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """``stage`` is ``search`` or ``propagate``."""

    def answered(self, result: InferenceResult, volume: Volume) -> None:
        """Box and points are known, and the mask on the slice."""


class FollowedPipeline(Protocol):
    """What is used of :class:`medreasoner_infer.pipeline.Pipeline`."""

    def ask(
        self,
        volume: Volume,
        request: AskRequest,
        *,
        on_text: OnText | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> InferenceResult:
        """Answer a question about ``volume``."""

    def segment(
        self,
        volume: Volume,
        request: SegmentRequest,
        *,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> InferenceResult:
        """Run the segmenter alone."""


@dataclasses.dataclass(frozen=True)
class Correction:
    """The reader's own prompt: opposite corners of a box, points inside and outside, LPS mm."""

    box_lps_mm: tuple[XYZ, ...] = ()
    inside_lps_mm: tuple[XYZ, ...] = ()
    outside_lps_mm: tuple[XYZ, ...] = ()

    @property
    def first_lps_mm(self) -> XYZ:
        """A position on the slice that was drawn on."""
        return (*self.box_lps_mm, *self.inside_lps_mm)[0]


def ask_in_steps(
    pipeline: FollowedPipeline,
    volume: Volume,
    params: InferParams,
    follower: Follower,
    cancelled: Cancelled | None,
) -> InferenceResult:
    """Answer ``params.query`` on the slice, then through the volume if ``params.propagate``.

    Raises:
        InputError: if the request does not fit the image.
        ServiceError: if a model is not available.
        CancelledError: if the caller left.
    """
    plane = plane_of(volume, params.selection)
    chosen = fixed_choice(volume, plane, params.selection, params.clicks)
    if chosen is not None:
        follower.slice_chosen(plane, *chosen)
    request = dataclasses.replace(ask_request(params), propagate=False)
    result = pipeline.ask(
        volume,
        request,
        on_text=follower.text,
        progress=follower.progress,
        cancelled=cancelled,
    )
    follower.answered(result, volume)
    if not params.propagate:
        return result
    return _through_volume(pipeline, volume, result, params.selection.window, follower, cancelled)


def correct_in_steps(
    pipeline: FollowedPipeline,
    volume: Volume,
    correction: Correction,
    params: InferParams,
    follower: Follower,
    cancelled: Cancelled | None,
) -> InferenceResult:
    """Segment by the reader's own prompt, without reasoning; see :func:`ask_in_steps`."""
    selection, prompt = _on_slice(volume, correction, params.selection)
    result = pipeline.segment(
        volume, SegmentRequest(selection, prompt), progress=follower.progress, cancelled=cancelled
    )
    follower.answered(result, volume)
    if not params.propagate:
        return result
    return _through_volume(pipeline, volume, result, selection.window, follower, cancelled)


def _through_volume(
    pipeline: FollowedPipeline,
    volume: Volume,
    result: InferenceResult,
    window: str | None,
    follower: Follower,
    cancelled: Cancelled | None,
) -> InferenceResult:
    """``result`` with the mask of the whole volume instead of the slice's."""
    place = result.slice
    if result.prompts is None or slice_count(volume, Plane.parse(place.plane)) == 1:
        return result
    request = SegmentRequest(
        SliceSelection(plane=place.plane, index=place.index, window=window),
        _prompt_of(result.prompts),
        propagate=True,
    )
    whole = pipeline.segment(volume, request, progress=follower.progress, cancelled=cancelled)
    return dataclasses.replace(
        result,
        mask_ijk=whole.mask_ijk,
        mask=whole.mask,
        propagated=whole.propagated,
        timings_s=_added(result.timings_s, whole.timings_s),
    )


def _prompt_of(prompts: PromptRecord) -> SlicePrompt:
    return SlicePrompt(prompts.bbox_xyxy_slice_px, prompts.points_xy_slice_px, prompts.point_labels)


def _added(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    return {key: first.get(key, 0.0) + second.get(key, 0.0) for key in {**first, **second}}


def _on_slice(
    volume: Volume, correction: Correction, selection: SliceSelection
) -> tuple[SliceSelection, SlicePrompt]:
    """The prompt in slice px of the slice that was drawn on; the box is cut at its edge."""
    plane = plane_of(volume, selection)
    index = slice_index_at(volume, plane, correction.first_lps_mm)
    mapping = slice_mapping(volume, plane, index)
    inside, outside = correction.inside_lps_mm, correction.outside_lps_mm
    points_px = mapping.lps_to_slice_px(np.reshape((*inside, *outside), (-1, 3)))
    box: XYXY | None = None
    if correction.box_lps_mm:
        corners_px = mapping.lps_to_slice_px(np.array(correction.box_lps_mm))
        height, width = mapping.shape_hw
        corners_px = np.clip(corners_px, 0, (width, height))
        (x1, y1), (x2, y2) = corners_px.min(axis=0), corners_px.max(axis=0)
        box = (float(x1), float(y1), float(x2), float(y2))
    prompt = SlicePrompt(
        box,
        tuple((float(x), float(y)) for x, y in points_px),
        (1,) * len(inside) + (0,) * len(outside),
    )
    return SliceSelection(plane=plane.value, index=index, window=selection.window), prompt
