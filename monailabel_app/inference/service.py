# SPDX-License-Identifier: Apache-2.0
"""From a parsed request to an answered and recorded inference."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import Plane, Volume, default_plane, slice_mapping, write_mask
from medreasoner_infer.reasoners.base import raise_if_cancelled
from medreasoner_infer.request import AskRequest, Click, SegmentRequest
from medreasoner_infer.result import InferenceResult
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.inference.gate import InferenceGate
from monailabel_app.inference.outputs import seconds_of
from monailabel_app.inference.params import InferParams
from monailabel_app.store import RecordStore

logger = logging.getLogger(__name__)

Cancelled = Callable[[], bool]


class Answers(Protocol):
    """What is used of :class:`medreasoner_infer.pipeline.Pipeline`."""

    def ask(
        self, volume: Volume, request: AskRequest, *, cancelled: Cancelled | None = None
    ) -> InferenceResult:
        """Answer a question about ``volume``."""

    def segment(
        self, volume: Volume, request: SegmentRequest, *, cancelled: Cancelled | None = None
    ) -> InferenceResult:
        """Run the segmenter alone."""


Infer = Callable[[Any, Volume], InferenceResult]


@dataclass(frozen=True)
class Answer:
    """A recorded result and the volume whose grid its mask is on."""

    result: InferenceResult
    volume: Volume


class AnsweringService:
    """Waits in line, loads the volume, asks the pipeline when its turn comes, records the result.

    Args:
        gate: before the device.
        questions: before the reasoner where that is another machine: its answers are waited for
            without the device, which who only clicks may use meanwhile (the segmenter itself runs
            one at a time). If not given, questions pass ``gate``.
    """

    def __init__(
        self,
        pipeline: Answers,
        volumes: VolumeCache,
        records: RecordStore,
        gate: InferenceGate,
        questions: InferenceGate | None = None,
    ) -> None:
        self.records = records
        self._pipeline = pipeline
        self._volumes = volumes
        self._gate = gate
        self._clicks = (gate.anteroom(), gate)
        self._questions = (questions.anteroom(), questions) if questions else self._clicks

    def ask(
        self,
        task: str,
        source: ImageSource,
        params: InferParams,
        cancelled: Cancelled | None,
        asked_by: str | None = None,
    ) -> Answer:
        """Answer ``params.query``, with the reader's clicks added if there are any.

        Raises:
            InputError: if there is no question, or the request does not fit the image.
            ServiceError: if a model is not available, the line is full, or recording fails.
            CancelledError: if the caller left.
        """
        if params.query is None:
            raise InputError("The question is missing; type it into the option 'query'.")
        return self.run(
            task,
            source,
            cancelled,
            lambda pipeline, volume: pipeline.ask(
                volume, ask_request(on_one_slice(volume, params)), cancelled=cancelled
            ),
            asked_by=asked_by,
        )

    def segment(
        self,
        task: str,
        source: ImageSource,
        params: InferParams,
        cancelled: Cancelled | None,
        asked_by: str | None = None,
    ) -> Answer:
        """Segment what the reader clicked on.

        Raises:
            InputError: if nothing was clicked on, or the request does not fit the image.
            ServiceError: if the model is not available, the line is full, or recording fails.
            CancelledError: if the caller left.
        """
        return self.run(
            task,
            source,
            cancelled,
            lambda pipeline, volume: pipeline.segment(
                volume, segment_request(on_one_slice(volume, params)), cancelled=cancelled
            ),
            asks=False,
            asked_by=asked_by,
        )

    def run(
        self,
        task: str,
        source: ImageSource,
        cancelled: Cancelled | None,
        infer: Infer,
        *,
        asks: bool = True,
        asked_by: str | None = None,
    ) -> Answer:
        """Wait in line, load the volume, let ``infer`` use the pipeline, and record its result.

        The volume is loaded while another is still being answered, one ahead at most.

        Args:
            asks: whether ``infer`` asks the reasoner, and not the segmenter alone.
            asked_by: the reader who is logged in.

        Raises:
            InputError: if the image cannot be read, or as ``infer`` does.
            ServiceError: if the line is full or recording fails, or as ``infer`` does.
            CancelledError: if the caller left.
        """
        anteroom, gate = self._questions if asks else self._clicks
        with anteroom.slot(cancelled):
            volume = self._volumes.get(source)
            with gate.slot(cancelled):
                result = infer(self._pipeline, volume)
        # Nobody will decide upon the answer to a reader who has left.
        raise_if_cancelled(cancelled)
        return self._record(task, source, Answer(result, volume), asked_by)

    def _record(
        self, task: str, source: ImageSource, answer: Answer, asked_by: str | None
    ) -> Answer:
        result = answer.result
        self.records.add_inference(
            result,
            task=task,
            image_id=source.image_id,
            study_uid=source.study_uid,
            asked_by=asked_by,
            write_mask=lambda path: write_mask(result.mask_ijk, answer.volume, path),
        )
        logger.info(
            "Inference %s by %s: %s in %.2f s",
            result.inference_id,
            task,
            "present" if result.present else "not present",
            seconds_of(result),
        )
        return answer


def ask_request(params: InferParams) -> AskRequest:
    """What ``params`` ask of the pipeline.

    Raises:
        InputError: if there is no question.
    """
    return AskRequest(
        query=params.query or "",
        selection=params.selection,
        propagate=params.propagate,
        samples=params.samples,
        seed=params.seed,
        clicks=params.clicks,
    )


def segment_request(params: InferParams) -> SegmentRequest:
    """What ``params`` ask of the segmenter alone.

    Raises:
        PromptError: if nothing was clicked on.
    """
    return SegmentRequest(
        selection=params.selection, clicks=params.clicks, propagate=params.propagate
    )


def on_one_slice(volume: Volume, params: InferParams) -> InferParams:
    """Keep the clicks that lie on the slice in question.

    Viewers send all clicks of a study. A ``slice`` that holds a click inside the target counts;
    otherwise the last such click chooses the slice, as its position is what the reader saw.
    """
    positive = [click for click in params.clicks if click.positive]
    if not positive or params.selection.position_lps_mm is not None:
        return params
    name = params.selection.plane
    plane = default_plane(volume) if name is None else Plane.parse(name)
    axis = slice_mapping(volume, plane, 0).slice_axis

    def index_of(click: Click) -> int:
        return round(click.position_ijk[axis])

    index = params.selection.index
    if index is None or index not in map(index_of, positive):
        index = index_of(positive[-1])
    return replace(
        params,
        selection=replace(params.selection, index=None),
        clicks=tuple(click for click in params.clicks if index_of(click) == index),
    )
