# SPDX-License-Identifier: Apache-2.0
"""Volume + question -> slice -> reasoning and prompts -> mask: the library's front door."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer import __version__
from medreasoner_infer.agreement import agreement, record_samples
from medreasoner_infer.checks import Checks
from medreasoner_infer.checks.checking import check_statements
from medreasoner_infer.checks.removal import removal_test
from medreasoner_infer.corrections import Correction
from medreasoner_infer.doubt import Asked, measure_doubt
from medreasoner_infer.errors import InputError
from medreasoner_infer.follow_up import (
    follow_up,
    follow_up_warnings,
    require_on_image,
    without_unused,
)
from medreasoner_infer.hooks import NO_HOOKS, Hooks, Work
from medreasoner_infer.imaging import (
    Plane,
    Volume,
    choose_window,
    put_mask,
    slice_count,
    slice_mapping,
    slice_of_mask,
)
from medreasoner_infer.language import questions_of
from medreasoner_infer.masks import Masks, Target, masks_in_turns
from medreasoner_infer.models.loading import load_reasoner, load_segmenter
from medreasoner_infer.models.registry import EMBEDDED, LIVE, resolve_model, served_reasoner
from medreasoner_infer.models.store import LiveReasoner, live_reasoner
from medreasoner_infer.prompting import (
    SourcedPrompt,
    contours_of,
    prompt_from_grounding,
    prompt_from_reader,
    record_prompt,
)
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.reasoners.prompts import AS_THE_MODEL_SAYS, Asking
from medreasoner_infer.records import now, record_slice, summarise_mask
from medreasoner_infer.request import SAMPLING_TEMPERATURE, AskRequest, SegmentRequest
from medreasoner_infer.result import FollowUp, InferenceResult, SampleRecord, SliceChoice
from medreasoner_infer.segmenters.base import Segmenter
from medreasoner_infer.sided_answers import with_side
from medreasoner_infer.slice_choice import (
    DisplayedSlice,
    fixed_choice,
    on_one_slice,
    plane_of,
    require_selection,
    search_slice,
)
from medreasoner_infer.stopwatch import Stopwatch
from medreasoner_infer.talk.answering import read_question, with_sizes
from medreasoner_infer.talk_record import FollowUpReading
from medreasoner_infer.types import (
    EarlierTarget,
    ModelIdentity,
    Outcome,
    ReasonerAnswer,
    SliceMask,
)

_SAID_WITHOUT_BOX: dict[Outcome, str] = {
    "absent": "The reasoner sees no target on this slice",
    "not_understood": "The reasoner did not understand the question",
}


class Pipeline:
    """A reasoner and a frozen segmenter, loaded at first use; safe to call from several threads.

    Args:
        load_reasoner: makes the reasoner when it is first needed; a
            :class:`~medreasoner_infer.models.store.LiveReasoner` is asked before every question, so
            that a promoted model answers the next one.
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
        asking: Asking = AS_THE_MODEL_SAYS,
    ) -> Pipeline:
        """Resolve both names now, load the weights at first use.

        Args:
            reasoner: registry name, Hugging Face id or local folder; with ``reasoner_url`` also
                the name under which that server offers the model. ``live`` is the promoted
                candidate of the store, and the embedded reasoner while there is none.
            segmenter: registry name, Hugging Face id or local path.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            reasoner_url: address of a vLLM server that serves the reasoner; several with commas
                between are replicas.
            adapter: a LoRA adapter's folder for a reasoner that is loaded here.
            asking: what differs from how the model is asked otherwise.

        Raises:
            UnknownModelError: if a name means nothing.
            InputError: if an adapter or another way of asking is given for ``live``, which brings
                its own.
        """
        segmenter_spec = resolve_model("segmenter", segmenter)

        def make_segmenter() -> Segmenter:
            return load_segmenter(segmenter_spec, device=device)

        if reasoner == LIVE:
            if adapter is not None:
                raise InputError("The live reasoner takes no adapter; promote one instead.")
            if asking != AS_THE_MODEL_SAYS:
                raise InputError(
                    "The live reasoner is asked as it was trained. Give the model's own name or "
                    "folder to ask it in another way."
                )
            return cls(live_reasoner(device=device, url=reasoner_url), make_segmenter)
        reasoner_spec = (
            resolve_model("reasoner", reasoner)
            if reasoner_url is None
            else served_reasoner(reasoner)
        )
        return cls(
            lambda: load_reasoner(
                reasoner_spec, device=device, url=reasoner_url, adapter=adapter, asking=asking
            ),
            make_segmenter,
        )

    @property
    def reasoner(self) -> Reasoner:
        """The reasoner for the next question, loaded if it was not yet."""
        if isinstance(self._make_reasoner, LiveReasoner):
            # Not under the lock: the old model answers other threads while the new one loads.
            self._reasoner = self._make_reasoner()
            return self._reasoner
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

    def ask(self, volume: Volume, request: AskRequest, hooks: Hooks = NO_HOOKS) -> InferenceResult:
        """Answer a clinical question about ``volume``.

        Raises:
            InputError: if the request does not fit the volume.
            ServiceError: if a model is not available or runs out of memory.
            CancelledError: if the caller cancelled.
        """
        watch = Stopwatch()
        query = request.query
        read = read_question(
            volume, request, lambda: self.reasoner, lambda: self.segmenter.identity, hooks
        )
        if read.answer is not None:
            return read.answer
        require_selection(volume, on_one_slice(volume, read.request).selection)
        with watch.stage("load_models"):
            reasoner, _ = self.reasoner, self.segmenter
        is_read = read.reading is not None
        followed = follow_up(volume, read.request.about, reasoner, is_read=is_read)
        for target in request.known:
            require_on_image(volume, target)
        known = (*request.known, *(() if request.about is None else (request.about,)))
        request = without_unused(on_one_slice(volume, read.request), reasoner)
        with watch.stage("choose_slice"):
            shown, choice = _slice_for_question(volume, request, reasoner, hooks)
        with watch.stage("reason"):
            answer, samples = _answer(reasoner, shown, request, hooks)
        hooks.raise_if_cancelled()
        grounding = answer.grounding
        prompt = prompt_from_grounding(grounding, request.clicks, shown.mapping)
        reading = _Reading(
            kind="ask",
            shown=shown,
            choice=choice,
            prompt=prompt,
            query=query,
            reasoning=grounding.reasoning,
            completion=answer.completion,
            outcome=grounding.outcome,
            confidence=answer.confidence,
            calibrated=answer.calibrated,
            agreement=agreement(answer, samples),
            samples=record_samples(answer, samples, shown.mapping),
            reasoner=reasoner.identity,
            follow_up=followed,
            known=known,
            read_as=read.reading,
            asked=Asked(reasoner, self.segmenter, shown, request, (answer, *samples)),
            warnings=(
                *read.warnings,
                *follow_up_warnings(followed),
                *_warnings(volume, answer, prompt),
                *_list_warning(request.query),
            ),
        )
        result = self._segmented(reading, request.propagate, hooks, watch)
        result = with_sizes(result, volume)
        if not request.removal_test:
            return result
        with watch.stage("removal_test"):
            mask_hw = slice_of_mask(result.mask_ijk, shown.mapping)
            removal = removal_test(reasoner, shown, request, grounding, mask_hw, hooks)
        checks = replace(result.checks or Checks(()), removal=removal)
        return replace(result, checks=checks, timings_s=watch.timings_s())

    def segment(
        self, volume: Volume, request: SegmentRequest, hooks: Hooks = NO_HOOKS
    ) -> InferenceResult:
        """Run the segmenter alone on the reader's prompts, or correct the last mask by them.

        Raises:
            InputError: if the prompts do not fit the slice.
            ServiceError: if the segmenter is not available or runs out of memory.
            CancelledError: if the caller cancelled.
        """
        watch = Stopwatch()
        request = on_one_slice(volume, request)
        selection = request.selection
        require_selection(volume, selection)
        with watch.stage("load_models"):
            _ = self.segmenter
        plane = plane_of(volume, selection)
        window = choose_window(volume, selection.window)
        chosen = fixed_choice(volume, plane, selection, request.clicks)
        index, choice = chosen or _middle_slice(volume, plane)
        shown = DisplayedSlice.of(volume, plane, index, window)
        hooks.report_slice(plane, index, choice)
        prompt = prompt_from_reader(
            request.prompt, request.clicks, shown.mapping, request.prompt_sources
        )
        reading = _Reading("segment", shown, choice, prompt, warnings=volume.warnings)
        last_mask_ijk = request.last_mask_ijk
        if last_mask_ijk is not None:
            last_mask = slice_of_mask(last_mask_ijk, shown.mapping)
            contours = contours_of(request.clicks, shown.mapping)
            correction = Correction(prompt.prompt, len(request.clicks), last_mask, contours)
            reading = replace(reading, correction=correction, last_mask_ijk=last_mask_ijk)
        return self._segmented(reading, request.propagate, hooks, watch)

    def _segmented(
        self, reading: _Reading, propagate: bool, hooks: Hooks, watch: Stopwatch
    ) -> InferenceResult:
        """Make the mask, on the slice, through the volume if that is wanted, then the doubt."""
        shown = reading.shown
        propagated = _goes_further(reading, propagate)
        mask_ijk = _mask_to_fill(reading, propagated)
        predicted_ious: dict[int, float] = {}
        with watch.stage("segment"):
            masks = self._masks(reading, propagated, hooks)
            for index, first in itertools.islice(masks, 1):
                _put(first, index, shown, mask_ijk)
                predicted_ious[index] = first.predicted_iou
        predicted_iou = next(iter(predicted_ious.values()), None)
        result = reading.result(mask_ijk, predicted_iou, self.segmenter.identity, watch)
        result = with_side(result, shown.volume)
        hooks.report_answer(result, shown.volume)
        if propagated:
            with watch.stage("segment"):
                for index, slice_mask in masks:
                    _put(slice_mask, index, shown, mask_ijk)
                    predicted_ious[index] = slice_mask.predicted_iou
            summary = summarise_mask(mask_ijk, shown.mapping, predicted_iou)
            result = replace(result, propagated=True, mask=summary)
            result = with_side(result, shown.volume)
        if reading.asked is not None and reading.samples:
            with watch.stage("doubt"):
                doubt, readings_ijk = measure_doubt(
                    reading.asked, mask_ijk, predicted_ious, propagated, hooks
                )
            result = replace(result, doubt=doubt, readings_ijk=readings_ijk)
        return replace(result, timings_s=watch.timings_s())

    def _masks(self, reading: _Reading, propagated: bool, hooks: Hooks) -> Masks:
        if reading.prompt is None:
            return iter(())
        prompt = reading.prompt.prompt
        target = Target(reading.shown, prompt, reading.correction, propagated)
        return masks_in_turns(self.segmenter, target, hooks)


@dataclass(frozen=True)
class _Reading:
    """What is known before there is a mask; without a reasoner most of it is not given."""

    kind: str
    shown: DisplayedSlice
    choice: SliceChoice
    prompt: SourcedPrompt | None
    query: str | None = None
    reasoning: str | None = None
    completion: str | None = None
    outcome: Outcome | None = None
    confidence: float | None = None
    calibrated: bool = False
    agreement: float | None = None
    samples: tuple[SampleRecord, ...] = ()
    reasoner: ModelIdentity | None = None
    follow_up: FollowUp | None = None
    known: tuple[EarlierTarget, ...] = ()
    read_as: FollowUpReading | None = None
    asked: Asked | None = None
    correction: Correction | None = None
    last_mask_ijk: NDArray[Any] | None = None
    warnings: tuple[str, ...] = ()

    def result(
        self,
        mask_ijk: NDArray[np.uint8],
        predicted_iou: float | None,
        segmenter: ModelIdentity,
        watch: Stopwatch,
    ) -> InferenceResult:
        """With the mask of the slice; who only clicked has found what the mask is not empty of."""
        shown = self.shown
        outcome: Outcome = self.outcome or ("present" if mask_ijk.any() else "absent")
        return InferenceResult(
            inference_id=str(uuid.uuid4()),
            created_at=now(),
            kind=self.kind,
            query=self.query,
            reasoning=self.reasoning,
            completion=self.completion,
            present=outcome == "present",
            outcome=outcome,
            confidence=self.confidence,
            calibrated=self.calibrated,
            agreement=self.agreement,
            samples=self.samples,
            prompts=None if self.prompt is None else record_prompt(self.prompt, shown.mapping),
            slice=record_slice(shown),
            slice_choice=self.choice,
            propagated=False,
            mask_ijk=mask_ijk,
            mask=summarise_mask(mask_ijk, shown.mapping, predicted_iou),
            modality=shown.volume.modality,
            reasoner=self.reasoner,
            segmenter=segmenter,
            timings_s=watch.timings_s(),
            warnings=self.warnings,
            software_version=__version__,
            follow_up=self.follow_up,
            checks=self._checks(mask_ijk, outcome),
            reading=self.read_as,
        )

    def _checks(self, mask_ijk: NDArray[np.uint8], outcome: Outcome) -> Checks | None:
        """Of what was reasoned; there is nothing to check where only the segmenter was asked."""
        if self.reasoning is None:
            return None
        mask_hw = slice_of_mask(mask_ijk, self.shown.mapping)
        query = self.query or ""
        return check_statements(self.reasoning, query, outcome, self.shown, mask_hw, self.known)


def _mask_to_fill(reading: _Reading, propagated: bool) -> NDArray[np.uint8]:
    """What slices are put into: of a correction that is not propagated the last mask.

    I varies fastest on disk in every format that a mask is written in.
    """
    if reading.last_mask_ijk is None or propagated:
        return np.zeros(reading.shown.volume.shape_ijk, dtype=np.uint8, order="F")
    return np.asfortranarray(reading.last_mask_ijk != 0).astype(np.uint8)


def _goes_further(reading: _Reading, propagate: bool) -> bool:
    """Whether there is a target to follow, and a slice beside the one that was read."""
    shown = reading.shown
    has_others = slice_count(shown.volume, shown.mapping.plane) > 1
    return propagate and reading.prompt is not None and has_others


def _put(
    slice_mask: SliceMask, index: int, shown: DisplayedSlice, mask_ijk: NDArray[np.uint8]
) -> None:
    mapping = slice_mapping(shown.volume, shown.mapping.plane, index)
    put_mask(slice_mask.mask, mapping, mask_ijk)


def _slice_for_question(
    volume: Volume, request: AskRequest, reasoner: Reasoner, hooks: Hooks
) -> tuple[DisplayedSlice, SliceChoice]:
    plane = plane_of(volume, request.selection)
    window = choose_window(volume, request.selection.window)
    chosen = fixed_choice(volume, plane, request.selection, request.clicks)
    if chosen is None:
        chosen = search_slice(volume, plane, window, reasoner, request.query, hooks, request.about)
    index, choice = chosen
    hooks.report_slice(plane, index, choice)
    size = reasoner.input_size
    return DisplayedSlice.of(volume, plane, index, window, model_size=size), choice


def _answer(
    reasoner: Reasoner, shown: DisplayedSlice, request: AskRequest, hooks: Hooks
) -> tuple[ReasonerAnswer, tuple[ReasonerAnswer, ...]]:
    """The greedy answer, and the further samples if any were asked for."""
    question = shown.request(request.query, reasoner.image_encoding, about=request.about)
    answer = hooks.answer(reasoner, question)
    if request.samples == 1:
        return answer, ()
    further = shown.request(
        request.query,
        reasoner.image_encoding,
        samples=request.samples - 1,
        temperature=SAMPLING_TEMPERATURE,
        seed=request.seed,
        about=request.about,
    )
    return answer, hooks.compute(
        Work.ANSWER, lambda cancelled: reasoner.answer(further, cancelled=cancelled)
    )


def _middle_slice(volume: Volume, plane: Plane) -> tuple[int, SliceChoice]:
    index = slice_count(volume, plane) // 2
    return index, SliceChoice("middle", f"No slice was given; slice {index} is the middle one.")


def _warnings(
    volume: Volume, answer: ReasonerAnswer, prompt: SourcedPrompt | None
) -> tuple[str, ...]:
    warnings = [*volume.warnings, *answer.grounding.warnings]
    if prompt is not None:
        warnings += prompt.warnings
        said = _SAID_WITHOUT_BOX.get(answer.grounding.outcome)
        if said is not None:
            warnings.append(f"{said}; the mask follows the clicks alone.")
    return tuple(warnings)


def _list_warning(query: str) -> tuple[str, ...]:
    """An answer marks one target."""
    questions = questions_of(query)
    if len(questions) == 1:
        return ()
    return (
        f"The question names {len(questions)} targets, and an answer marks one; ask one by one: "
        f"{'; '.join(questions)}",
    )
