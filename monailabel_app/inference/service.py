# SPDX-License-Identifier: Apache-2.0
"""The one way of a question: in line, through the models in turns, into the records."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from medreasoner_infer.hooks import NO_HOOKS, Cancelled, Hooks
from medreasoner_infer.imaging import Volume, write_mask
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest, SegmentRequest
from medreasoner_infer.result import InferenceResult
from medreasoner_infer.types import OUTCOME_WORDS
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.inference.call import Call
from monailabel_app.inference.device import Device
from monailabel_app.inference.gate import Places
from monailabel_app.inference.line import Line
from monailabel_app.inference.measures import RECORD, Measures
from monailabel_app.store import RecordStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Answer:
    """A recorded result and the volume whose grid its mask is on."""

    result: InferenceResult
    volume: Volume


class AnsweringService:
    """Loads the volume, asks the pipeline, whose models take turns, and records the result.

    Args:
        device: what the models compute on.
        at_once: questions that are worked at at a time, each with its volume in memory; they wait
            for the reasoner's server, or take turns on the device.
        max_waiting: questions that may wait besides. Who only clicks waits for the device alone,
            and so many may at a time.
        measures: gets what is answered, what fails, and how long it takes.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        volumes: VolumeCache,
        records: RecordStore,
        device: Device,
        at_once: int,
        max_waiting: int,
        measures: Measures,
    ) -> None:
        self._pipeline = pipeline
        self._volumes = volumes
        self._records = records
        self._device = device
        self._measures = measures
        self._questions = Line(at_once, max_waiting)
        self._clicks = Places(max_waiting + 1)

    @property
    def waiting(self) -> int:
        """How many questions wait in line."""
        return self._questions.waiting

    @property
    def asked(self) -> int:
        """How many questions are worked at."""
        return self._questions.held

    def is_busy(self) -> bool:
        """Whether a question is worked at or waits."""
        return self.asked > 0 or self.waiting > 0

    def load(self) -> None:
        """Load both models now, where they will compute.

        Raises:
            ServiceError: if either is not available.
        """
        self._device.run(self._pipeline.load)

    def answer(self, call: Call, hooks: Hooks = NO_HOOKS) -> Answer:
        """Answer a question, or segment what the reader drew, and record it.

        Raises:
            InputError: if the image cannot be read or the request does not fit it.
            ServiceError: if a model is not available, the line is full, or recording fails.
            CancelledError: if the caller left.
        """
        with self._measures.faults():
            answer = self._answer(call, hooks)
        self._measures.answered(answer.result)
        return answer

    def segment(
        self, volume: Volume, request: SegmentRequest, asked_by: str | None, hooks: Hooks = NO_HOOKS
    ) -> InferenceResult:
        """Run the segmenter for a second look at what was answered; nothing is recorded.

        Raises:
            InputError: if the request does not fit the volume.
            ServiceError: if the segmenter is not available, or too many wait.
            CancelledError: if the caller left.
        """
        turns = self._device.hooks_of(asked_by or object(), hooks)
        with self._measures.faults(), self._clicks.place():
            return self._pipeline.segment(volume, request, turns)

    def _answer(self, call: Call, hooks: Hooks) -> Answer:
        # Where nobody logs in, each call stands for a reader.
        reader = call.asked_by or object()
        turns = self._device.hooks_of(reader, hooks)
        with self._place(call, reader, hooks.cancelled):
            volume = self._volumes.get(call.source)
            request = call.request(volume)
            if isinstance(request, AskRequest):
                result = self._pipeline.ask(volume, request, turns)
            else:
                result = self._pipeline.segment(volume, request, turns)
        # Nobody will decide upon the answer to a reader who has left.
        hooks.raise_if_cancelled()
        if call.keep is not None:
            result = call.keep(result)
        with self._measures.working(RECORD):
            self._record(call, result, volume)
        return Answer(result, volume)

    @contextmanager
    def _place(self, call: Call, reader: Hashable, cancelled: Cancelled | None) -> Iterator[None]:
        if not call.asks_reasoner:
            with self._clicks.place():
                yield
            return
        started = time.perf_counter()
        with self._questions.place(reader, cancelled=cancelled):
            self._measures.waited("question", time.perf_counter() - started)
            yield

    def _record(self, call: Call, result: InferenceResult, volume: Volume) -> None:
        readings = result.readings_ijk
        self._records.add_inference(
            result,
            task=call.model,
            image_id=call.source.image_id,
            study_uid=call.source.study_uid,
            asked_by=call.asked_by,
            write_mask=lambda path: write_mask(result.mask_ijk, volume, path),
            write_doubt=(
                None if readings is None else lambda path: write_mask(readings, volume, path)
            ),
        )
        logger.info(
            "Inference %s by %s: %s in %.2f s",
            result.inference_id,
            call.model,
            OUTCOME_WORDS[result.outcome],
            result.total_s,
        )
