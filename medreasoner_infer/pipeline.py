# SPDX-License-Identifier: Apache-2.0
"""Volume + question -> slice -> reasoning and prompts -> mask: the library's front door."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timezone

import numpy as np

from medreasoner_infer.agreement import agreement, record_samples
from medreasoner_infer.errors import CancelledError
from medreasoner_infer.imaging import (
    Plane,
    SliceMapping,
    SliceStack,
    Volume,
    Window,
    choose_window,
    put_mask,
    slice_count,
    slice_image,
    slice_mapping,
)
from medreasoner_infer.models.loading import load_reasoner, load_segmenter
from medreasoner_infer.models.registry import EMBEDDED, ModelSpec, resolve_model
from medreasoner_infer.prompting import (
    SourcedPrompt,
    prompt_from_grounding,
    prompt_from_reader,
    record_prompt,
)
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.request import SAMPLING_TEMPERATURE, AskRequest, SegmentRequest
from medreasoner_infer.result import InferenceResult, MaskSummary, SliceChoice, SliceRecord
from medreasoner_infer.segmenters.base import Segmenter
from medreasoner_infer.slice_choice import (
    PreparedSlice,
    Progress,
    fixed_choice,
    plane_of,
    prepare_slice,
    search_slice,
)
from medreasoner_infer.stopwatch import Stopwatch
from medreasoner_infer.types import ModelIdentity, ReasonerAnswer, SliceImage

Cancelled = Callable[[], bool]


class Pipeline:
    """A reasoner and a frozen segmenter, loaded at first use; safe to call from several threads.

    Args:
        load_reasoner: makes the reasoner when it is first needed.
        load_segmenter: makes the segmenter when it is first needed.
    """

    def __init__(
        self, load_reasoner: Callable[[], Reasoner], load_segmenter: Callable[[], Segmenter]
    ) -> None:
        self._make_reasoner = load_reasoner
        self._make_segmenter = load_segmenter
        self._reasoner: Reasoner | None = None
        self._segmenter: Segmenter | None = None
        self._loading = threading.Lock()

    @classmethod
    def from_registry(
        cls,
        reasoner: str = EMBEDDED,
        segmenter: str = EMBEDDED,
        *,
        device: str = "auto",
        reasoner_url: str | None = None,
        adapter: str | None = None,
    ) -> Pipeline:
        """Resolve both names now, load the weights at first use.

        ``reasoner_url`` is the address of a vLLM server that serves the reasoner; ``adapter`` a
        LoRA adapter's folder for a reasoner that is loaded here.

        Raises:
            UnknownModelError: if a name means nothing.
        """
        reasoner_spec: ModelSpec = resolve_model("reasoner", reasoner)
        segmenter_spec: ModelSpec = resolve_model("segmenter", segmenter)
        return cls(
            lambda: load_reasoner(reasoner_spec, device=device, url=reasoner_url, adapter=adapter),
            lambda: load_segmenter(segmenter_spec, device=device),
        )

    @property
    def reasoner(self) -> Reasoner:
        """The reasoner, loaded if it was not yet."""
        with self._loading:
            if self._reasoner is None:
                self._reasoner = self._make_reasoner()
            return self._reasoner

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter, loaded if it was not yet."""
        with self._loading:
            if self._segmenter is None:
                self._segmenter = self._make_segmenter()
            return self._segmenter

    @property
    def reasoner_identity(self) -> ModelIdentity | None:
        """Which reasoner is loaded; ``None`` before its first use."""
        return None if self._reasoner is None else self._reasoner.identity

    @property
    def segmenter_identity(self) -> ModelIdentity | None:
        """Which segmenter is loaded; ``None`` before its first use."""
        return None if self._segmenter is None else self._segmenter.identity

    def load(self) -> None:
        """Load both models now.

        Raises:
            ServiceError: if either is not available.
        """
        _ = self.reasoner, self.segmenter

    def ask(
        self,
        volume: Volume,
        request: AskRequest,
        *,
        on_text: Callable[[str], None] | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> InferenceResult:
        """Answer a clinical question about ``volume``.

        Args:
            on_text: receives the reasoner's text piece by piece as it is generated.
            progress: receives (stage, done, total); stages are ``search`` and ``propagate``.
            cancelled: polled often; once it returns true, :class:`CancelledError` is raised.

        Raises:
            InputError: if the request does not fit the volume.
            ServiceError: if a model is not available or runs out of memory.
            CancelledError: if the caller cancelled.
        """
        watch = Stopwatch()
        with watch.stage("load_models"):
            reasoner, _ = self.reasoner, self.segmenter
        plane = plane_of(volume, request.selection)
        window = choose_window(volume, request.selection.window)
        with watch.stage("choose_slice"):
            chosen = fixed_choice(volume, plane, request.selection, request.clicks)
            index, choice = chosen or search_slice(
                volume, plane, window, reasoner, request.query,
                progress=progress, cancelled=cancelled,
            )  # fmt: skip
        with watch.stage("prepare_image"):
            prepared = prepare_slice(volume, plane, index, window, reasoner)
        with watch.stage("reason"):
            answer, samples = _answer(reasoner, prepared, request, on_text, cancelled)
        _raise_if(cancelled)
        prompt = prompt_from_grounding(answer.grounding, request.clicks, prepared.mapping)
        with watch.stage("segment"):
            mask_ijk, predicted_iou = self._mask(
                volume, prepared.mapping, prepared.image, window, prompt, request.propagate,
                progress, cancelled,
            )  # fmt: skip
        warnings = [*volume.warnings, *answer.grounding.warnings]
        if prompt is not None and not answer.grounding.present:
            warnings.append(
                "The reasoner sees no target on this slice; the mask follows the clicks alone."
            )
        return InferenceResult(
            inference_id=str(uuid.uuid4()),
            created_at=_now(),
            kind="ask",
            query=request.query,
            reasoning=answer.grounding.reasoning,
            completion=answer.completion,
            present=answer.grounding.present,
            confidence=answer.confidence,
            agreement=agreement(answer, samples),
            samples=record_samples(answer, samples, prepared.mapping),
            prompts=None if prompt is None else record_prompt(prompt, prepared.mapping),
            slice=_slice_record(volume, prepared.mapping, window),
            slice_choice=choice,
            propagated=request.propagate and prompt is not None,
            mask_ijk=mask_ijk,
            mask=_summarise(mask_ijk, volume, prepared.mapping, predicted_iou),
            modality=volume.modality,
            reasoner=reasoner.identity,
            segmenter=self.segmenter.identity,
            timings_s=watch.timings_s(),
            warnings=tuple(warnings),
        )

    def segment(
        self,
        volume: Volume,
        request: SegmentRequest,
        *,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> InferenceResult:
        """Run the segmenter alone on the reader's prompts.

        Raises:
            InputError: if the prompts do not fit the slice.
            ServiceError: if the segmenter is not available or runs out of memory.
            CancelledError: if the caller cancelled.
        """
        watch = Stopwatch()
        with watch.stage("load_models"):
            segmenter = self.segmenter
        plane = plane_of(volume, request.selection)
        window = choose_window(volume, request.selection.window)
        chosen = fixed_choice(volume, plane, request.selection, request.clicks)
        index, choice = chosen or _middle_slice(volume, plane)
        mapping = slice_mapping(volume, plane, index)
        image = slice_image(volume, mapping, window)
        prompt = prompt_from_reader(request.prompt, request.clicks, mapping)
        with watch.stage("segment"):
            mask_ijk, predicted_iou = self._mask(
                volume, mapping, image, window, prompt, request.propagate, progress, cancelled
            )
        return InferenceResult(
            inference_id=str(uuid.uuid4()),
            created_at=_now(),
            kind="segment",
            query=None,
            reasoning=None,
            completion=None,
            present=bool(mask_ijk.any()),
            confidence=None,
            agreement=None,
            samples=(),
            prompts=record_prompt(prompt, mapping),
            slice=_slice_record(volume, mapping, window),
            slice_choice=choice,
            propagated=request.propagate,
            mask_ijk=mask_ijk,
            mask=_summarise(mask_ijk, volume, mapping, predicted_iou),
            modality=volume.modality,
            reasoner=None,
            segmenter=segmenter.identity,
            timings_s=watch.timings_s(),
            warnings=volume.warnings,
        )

    def _mask(
        self,
        volume: Volume,
        mapping: SliceMapping,
        image: SliceImage,
        window: Window | None,
        sourced: SourcedPrompt | None,
        propagate: bool,
        progress: Progress | None,
        cancelled: Cancelled | None,
    ) -> tuple[np.ndarray, float | None]:
        """The mask on the image's grid (I, J, K) and the predicted IoU on the prompted slice."""
        mask_ijk = np.zeros(volume.shape_ijk, dtype=np.uint8)
        if sourced is None:
            return mask_ijk, None
        if not propagate or slice_count(volume, mapping.plane) == 1:
            slice_mask = self.segmenter.segment_slice(image, sourced.prompt)
            put_mask(slice_mask.mask, mapping, mask_ijk)
            return mask_ijk, slice_mask.predicted_iou
        predicted_iou = None
        frames = SliceStack(volume, mapping.plane, window)
        for index, slice_mask in self.segmenter.propagate(
            frames,
            mapping.index,
            sourced.prompt,
            progress=None if progress is None else lambda d, n: progress("propagate", d, n),
            cancelled=cancelled,
        ):
            put_mask(slice_mask.mask, slice_mapping(volume, mapping.plane, index), mask_ijk)
            if index == mapping.index:
                predicted_iou = slice_mask.predicted_iou
        return mask_ijk, predicted_iou


def _answer(
    reasoner: Reasoner,
    prepared: PreparedSlice,
    request: AskRequest,
    on_text: Callable[[str], None] | None,
    cancelled: Cancelled | None,
) -> tuple[ReasonerAnswer, tuple[ReasonerAnswer, ...]]:
    """The greedy answer, and the further samples if any were asked for."""
    (answer,) = reasoner.answer(
        prepared.request(request.query), on_text=on_text, cancelled=cancelled
    )
    if request.samples == 1:
        return answer, ()
    further = prepared.request(
        request.query,
        samples=request.samples - 1,
        temperature=SAMPLING_TEMPERATURE,
        seed=request.seed,
    )
    return answer, reasoner.answer(further, cancelled=cancelled)


def _middle_slice(volume: Volume, plane: Plane) -> tuple[int, SliceChoice]:
    index = slice_count(volume, plane) // 2
    return index, SliceChoice("middle", f"No slice was given; slice {index} is the middle one.")


def _slice_record(volume: Volume, mapping: SliceMapping, window: Window | None) -> SliceRecord:
    height, width = mapping.shape_hw
    (center,) = mapping.slice_px_to_lps(np.array([[width / 2, height / 2]]))
    return SliceRecord(
        plane=mapping.plane.value,
        index=mapping.index,
        count=slice_count(volume, mapping.plane),
        shape_hw=mapping.shape_hw,
        spacing_xy_mm=mapping.spacing_xy_mm,
        center_lps_mm=tuple(float(v) for v in center),
        window_name="as stored" if window is None else window.name,
        window_center=None if window is None else window.center,
        window_width=None if window is None else window.width,
    )


def _summarise(
    mask_ijk: np.ndarray, volume: Volume, mapping: SliceMapping, predicted_iou: float | None
) -> MaskSummary:
    voxels = int(mask_ijk.sum())
    other_axes = tuple(axis for axis in range(3) if axis != mapping.slice_axis)
    per_slice = mask_ijk.sum(axis=other_axes, dtype=np.int64)
    (filled,) = np.nonzero(per_slice)
    x_mm, y_mm = mapping.spacing_xy_mm
    voxel_mm3 = abs(float(np.linalg.det(volume.ijk_to_lps[:3, :3])))
    return MaskSummary(
        voxels=voxels,
        volume_mm3=round(voxels * voxel_mm3, 3),
        slice_area_mm2=round(float(per_slice[mapping.index]) * x_mm * y_mm, 3),
        slice_range=(int(filled[0]), int(filled[-1])) if filled.size else None,
        predicted_iou=predicted_iou,
    )


def _raise_if(cancelled: Cancelled | None) -> None:
    if cancelled is not None and cancelled():
        raise CancelledError("The inference was cancelled by the caller.")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
